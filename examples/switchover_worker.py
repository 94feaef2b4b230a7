"""A worker for consumers of `switchover.toml`: takes and finishes their records, from one domain, until it is stopped.

    python examples/switchover_worker.py STORE DOMAIN LEDGER CONSUMER...

It polls the output of the old engine, always, and is given records of whichever output its consumer is at; each answer
names that output, and the records are acked there. An ack that comes when the consumer was switched meanwhile is
refused (14): the record comes again, from the other output. So a line is written to the ledger, `consumer output key`,
when its ack was accepted, and no key is there twice for a consumer.

SIGTERM, Ctrl-C or the end of standard input let it finish what it holds.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import BinaryIO

import grafctl
from grafctl.client import Store
from grafctl.errors import Fenced, GrafctlError
from grafctl.results import Record

BATCH, PAUSE_S = 50, 0.05


def work(store: Store, consumers: list[str], domain: str, ledger: BinaryIO, stopped: threading.Event) -> None:
    """Works for some consumers in turn until it is stopped."""
    while not stopped.is_set():
        if not sum([take(store, consumer, domain, ledger) for consumer in consumers]):
            stopped.wait(PAUSE_S)


def take(store: Store, consumer: str, domain: str, ledger: BinaryIO) -> int:
    """Finishes the next records of a consumer; returns how many there were."""
    shape = consumer.partition("-")[0]
    try:
        given = store.poll(f"{shape}-old", consumer, domain=domain, max=BATCH)
        if not given.records:
            return 0
        # Here a real consumer works on the records.
        offsets = [record.offset for record in given.records]
        store.ack(given.resource, given.group, offsets, domain=domain, lease=given.lease)
    except Fenced:
        return 0
    except GrafctlError as error:
        if not error.as_json()["retryable"]:
            raise
        return 0
    ledger.write(
        b"".join(b"%s %s %s\n" % (*_names(consumer, given.resource), _key(record)) for record in given.records)
    )
    return len(given.records)


def _names(*names: str) -> tuple[bytes, ...]:
    return tuple(name.encode() for name in names)


def _key(record: Record) -> bytes:
    return (record.key or "").encode()


def stop_with_input(stopped: threading.Event) -> None:
    """Stops the worker when whoever started it is gone, or says so."""
    while os.read(0, 4096):
        pass
    stopped.set()


def main(directory: str, domain: str, ledger: str, *consumers: str) -> None:
    """Works until standard input ends."""
    stopped = threading.Event()
    threading.Thread(target=stop_with_input, args=(stopped,), daemon=True).start()
    with grafctl.open(directory) as store, open(ledger, "ab", buffering=0) as book:
        work(store, list(consumers), domain, book, stopped)


if __name__ == "__main__":
    main(*sys.argv[1:])
