"""A worker for the orders of `tpch.py`: adds each order to a ledger, from one domain, until it is told to stop.

    python examples/worker.py STORE GROUP DOMAIN LEDGER

SIGTERM, Ctrl-C or the end of standard input let it finish the order under way and give the others back. The entry is
in the ledger before the order is acked: a worker that is killed in between leaves an order that comes again, and its
second entry is seen by its key. So the ledger misses nothing, and counted by key it holds nothing twice.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import tpch

import grafctl

QUEUE = "orders"


def work(store: str, group: str, domain: str, ledger: str) -> grafctl.Worker:
    """Works until it is stopped; returns the worker with its counts."""
    with grafctl.open(store) as opened, open(ledger, "ab", buffering=0) as book:
        with grafctl.Worker(opened, QUEUE, group, domain=domain, batch=1000, ack_every=1000) as records:
            threading.Thread(target=stop_with_input, args=(records,), daemon=True).start()
            for record in records:
                order = json.loads(record.payload)
                book.write(b"%d %d %d\n" % (record.offset, order["order_key"], tpch.cents(order["total_price"])))
    return records


def stop_with_input(records: grafctl.Worker) -> None:
    """Stops the worker when whoever started it is gone."""
    while os.read(0, 4096):
        pass
    records.stop()


if __name__ == "__main__":
    done = work(*sys.argv[1:])
    sys.stdout.write(json.dumps({"acked": done.acked, "given_back": done.given_back, "lost": done.lost}) + "\n")
