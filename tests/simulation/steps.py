"""What clients do in a history, and how a seed chooses it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from faults.stores import DOMAINS
from faults.verdict import Ledger

from simulation.clients import Client, Step
from simulation.stores import QUEUE

DENIED, STALE, FENCED, SAME_ID = 11, 13, 14, 16


@dataclass
class Publish:
    """One record, with an id that others may use too, or without."""

    payload: str
    id: str | None
    domain: str

    def run(self, client: Client) -> None:
        ledger = client.history.ledger

        def publish(operation: str | None) -> int:
            if operation is None:
                tries(ledger, self.payload, self.id)
            ack = client.store.publish(QUEUE, self.payload, domain=self.domain, id=self.id, operation=operation)
            return ack.offset

        offset = client.ask(frozenset({SAME_ID}), publish, missed=lambda: missed(ledger, self.payload, self.id))
        ledger.published(offset, self.payload, self.id)


def tries(ledger: Ledger, payload: str, record_id: str | None) -> None:
    """Notes that a record may be there once more; one with an id once in all."""
    if record_id is None:
        ledger.publishes([payload])
    else:
        ledger.tried[payload] = 1


def missed(ledger: Ledger, payload: str, record_id: str | None) -> None:
    """Notes that a record was not written."""
    if record_id is None:
        ledger.tried[payload] -= 1


def programs(random: Random) -> list[list[Step]]:
    """Returns the programs of two or three clients."""
    return [
        [_publish(random, f"{name}{number}") for number in range(random.randint(3, 6))]
        for name in "xyz"[: random.randint(2, 3)]
    ]


def _publish(random: Random, name: str) -> Publish:
    record_id = random.choice((None, None, "id-1", "id-2"))
    return Publish(f"payload of {record_id or name}", record_id, random.choice(DOMAINS))
