"""Steps that several scenarios share: take a domain away, work in one, see that a refusal wrote nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import grafctl.client as client
from faults.deeds import GROUP, HOUR_MS, QUEUE
from faults.stores import publish
from faults.verdict import Ledger
from grafctl.errors import NoQuorum


@contextmanager
def away(store: Path, domain: str) -> Iterator[None]:
    """Takes a domain out for a drill, and ends the drill."""
    with client.open(store) as opened:
        opened.domains.fail(domain)
    yield
    with client.open(store) as opened:
        opened.domains.restore(domain)


def work(opened: client.Store, ledger: Ledger, domain: str, payload: str) -> None:
    """Publishes a record, polls one and acknowledges it, in one domain."""
    publish(opened, ledger, domain, [(payload, payload)])
    delivery = opened.poll(QUEUE, GROUP, domain=domain, max=1, visibility_ms=HOUR_MS)
    offsets = [record.offset for record in delivery.records]
    assert len(offsets) == 1
    done = opened.ack(QUEUE, GROUP, offsets, domain=domain, lease=delivery.lease)
    ledger.finalised(GROUP, offsets, done.count)


def bytes_of(store: Path) -> dict[str, bytes]:
    """Returns every file of every domain; the audit spool and the lock files beside them are not in it."""
    found = [path for name in ("data.mdb", "journal") for path in (store / "domains").rglob(name)]
    return {str(path): path.read_bytes() for path in sorted(found)}


def refuses_and_leaves_all_as_it_was(store: Path, domain: str) -> None:
    """Every writing operation of a domain is refused with 21, having written nothing anywhere."""
    before = bytes_of(store)
    with client.open(store) as opened:
        for write in (
            lambda: opened.publish(QUEUE, "refused", domain=domain),
            lambda: opened.publish(QUEUE, "refused", domain=domain, id="refused"),
            lambda: opened.poll(QUEUE, GROUP, domain=domain),
            lambda: opened.ack(QUEUE, GROUP, [2], domain=domain),
            lambda: opened.fence(QUEUE, epoch=9),
        ):
            with pytest.raises(NoQuorum) as refused:
                write()
            assert refused.value.exit_code == 21 and refused.value.fields["outcome"] == "not_written"
            assert "operation" not in refused.value.fields
    assert bytes_of(store) == before
