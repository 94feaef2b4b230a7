"""What the children of the fork server do: one deed is one command of an operator, a producer or a consumer.

A deed opens the store anew, as a command does, and says each acknowledgement the moment it has it:
`published` [offset, payload, id], `finalised` [lineage, offsets, changed], `delivered` [offset…], `changed` true/false.
One of a crowd also says what it is about to try (`tries`), and that it was refused and will try again (`refused`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grafctl.client as client
from faults import etl, moves, switches, table_switches
from grafctl.errors import DomainUnavailable, NoQuorum, NotFound, Timeout
from grafctl.store.blocks import Outgoing
from grafctl.store.log import Log

Say = Callable[..., None]
QUEUE, GROUP = "q", "g"
HOUR_MS = 3_600_000
STREAM = [[(f"s{batch}{item}", f"stream {batch} {item}") for item in range(3)] for batch in range(3)]


def publish(
    store: Path, say: Say, payload: str, id: str | None = None, operation: str | None = None, **at: str
) -> None:
    with client.open(store) as opened:
        domain, queue = at.get("domain", "a"), at.get("queue", QUEUE)
        ack = opened.publish(queue, payload, domain=domain, id=id, operation=operation)
        say(published=[ack.offset, payload, id], acked_by=ack.acked_by, copies=ack.payload_copies, again=ack.replayed)


def publish_stream(store: Path, say: Say) -> None:
    batches = [[Outgoing(text.encode(), record_id) for record_id, text in batch] for batch in STREAM]
    with client.open(store) as opened:
        for ack, batch in zip(opened.publish_stream(QUEUE, batches, domain="b"), STREAM, strict=True):
            offsets = ack.offsets or range(ack.offset, ack.offset + ack.count)
            for offset, (record_id, text) in zip(offsets, batch, strict=True):
                say(published=[offset, text, record_id])


def ack(store: Path, say: Say, offsets: list[int], domain: str = "b") -> None:
    with client.open(store) as opened:
        done = opened.ack(QUEUE, GROUP, offsets, domain=domain)
        say(finalised=[GROUP, offsets, done.count])


def nack(store: Path, say: Say, offsets: list[int]) -> None:
    with client.open(store) as opened:
        say(changed=opened.nack(QUEUE, GROUP, offsets, domain="b").changed)


def poll(store: Path, say: Say, domain: str = "b", max: int = 2) -> None:
    with client.open(store) as opened:
        delivery = opened.poll(QUEUE, GROUP, domain=domain, max=max, visibility_ms=HOUR_MS)
        say(delivered=[record.offset for record in delivery.records], lease=delivery.lease)


def locator(store: Path, say: Say, generation: int, **members: list[str]) -> None:
    with client.open(store) as opened:
        say(changed=opened.locator.set(QUEUE, generation=generation, **members).changed)  # type: ignore[arg-type]


def catch_up(store: Path, say: Say, domain: str = "d") -> None:
    with client.open(store) as opened:
        proof = opened.catch_up(QUEUE, domain=domain)
        assert proof.match, proof
        say(proof=proof.proof, changed=proof.changed)


def shift(store: Path, say: Say, proof: str) -> None:
    with client.open(store) as opened:
        done = opened.consumers.shift(QUEUE, GROUP, as_="moved", allow=["d"], proof=proof)
        assert done.original == {"unchanged": True}, done
        say(changed=done.changed)


def consumer_create(store: Path, say: Say) -> None:
    with client.open(store) as opened:
        say(changed=opened.consumers.create(QUEUE, "other", allow=["a", "b"], max_deliveries=3).changed)


def placement(store: Path, say: Say) -> None:
    with client.open(store) as opened:
        say(changed=opened.placement.set(QUEUE, allow=["a", "b", "c", "d"], deny=["c/x"]).changed)


def fence(store: Path, say: Say) -> None:
    with client.open(store) as opened:
        say(changed=opened.fence(QUEUE, epoch=7).changed)


def queue_create(store: Path, say: Say, replicas: list[str]) -> None:
    with client.open(store) as opened:
        say(changed=opened.queues.create("q2", replicas=replicas, allow=["a", "b", "c", "d"]).changed)


def domain_add(store: Path, say: Say) -> None:
    with client.open(store) as opened:
        say(changed=opened.domains.add("e").changed)


def domain_repair(store: Path, say: Say, domain: str = "b", accept_loss: tuple[str, ...] = ()) -> None:
    with client.open(store) as opened:
        say(changed=opened.domains.repair(domain, accept_loss=accept_loss).changed)


def restore(store: Path, say: Say, domain: str = "a") -> None:
    with client.open(store) as opened:
        say(changed=opened.domains.restore(domain).changed)


def init(store: Path, say: Say, domains: list[str]) -> None:
    say(changed=client.create(store, dict.fromkeys(domains)).changed)


def back_up(store: Path, say: Say) -> None:
    """Saves the store in a directory of its own, where what is there by name must be whole."""
    folder = store / "backups"
    folder.mkdir(exist_ok=True)
    with client.open(store) as opened:
        say(changed=opened.backup(folder).changed)
    there = list(folder.iterdir())
    assert not [path for path in there if path.name.startswith(".")], there
    for path in there:
        client.restore(path)


def restore_backup(store: Path, say: Say, backup: str) -> None:
    if not (store / "store.toml").exists() and store.exists():
        try:
            client.open(store)
        except NotFound:
            pass
        else:
            raise AssertionError("what is half restored was opened")
    say(changed=client.restore(backup, store).changed)


# --- one of many


def publish_many(store: Path, say: Say, name: str, domain: str, seed: int, goes: int) -> None:
    """Publishes single records and batches, with ids and without, each until it is acknowledged."""
    rng = random.Random(seed)
    with client.open(store) as opened:
        for go in range(goes):
            has_ids = rng.random() < 0.5
            texts = [f"{name} {go} {item}" for item in range(rng.choice((1, 1, 2, 5)))]
            batch = [Outgoing(text.encode(), text.replace(" ", "-") if has_ids else None) for text in texts]
            say(tries=texts)
            ack = _until_done(say, partial(opened.publish_batch, QUEUE, batch, domain=domain), is_named=True)
            for offset, record in zip(ack.offsets or range(ack.offset, ack.offset + ack.count), batch, strict=True):
                say(published=[offset, record.payload.decode(), record.id])


def consume_many(store: Path, say: Say, domain: str, seed: int, until: str) -> None:
    """Polls and acknowledges; ends when the file `until` is there and nothing is left for it."""
    rng = random.Random(seed)
    with client.open(store) as opened:
        while True:
            is_last = Path(until).exists()
            most = rng.choice((1, 3, 10))
            poll = partial(opened.poll, QUEUE, GROUP, domain=domain, max=most, visibility_ms=HOUR_MS)
            delivery = _until_done(say, poll)
            offsets = [record.offset for record in delivery.records]
            if offsets:
                say(delivered=offsets)
                ack = partial(opened.ack, QUEUE, GROUP, offsets, domain=domain, lease=delivery.lease)
                done = _until_done(say, ack)
                say(finalised=[GROUP, offsets, done.count])
            elif is_last:
                return
            else:
                time.sleep(0.005)


def _until_done(say: Say, act: Callable[..., Any], *, is_named: bool = False) -> Any:
    """Tries until it is done; where the outcome was unknown, again as the same operation, if it can be named."""
    key: dict[str, Any] = {}
    while True:
        try:
            return act(**key)
        except (NoQuorum, Timeout, DomainUnavailable) as error:
            say(refused=error.as_json())
            if is_named and error.fields.get("operation"):
                key = {"operation": error.fields["operation"]}
            time.sleep(0.01)


def hurry(deadline_s: float) -> None:
    """Makes operations that are not told how long to try give up sooner, so that a hopeless one does not cost 10 s."""
    methods = (client.Store.publish, client.Store.publish_batch, client.Store.publish_stream)
    for method, name in (
        *((each, "deadline_s") for each in (Log.append, Log.change_voters, Log.settle)),
        *((each, "timeout_s") for each in methods),
    ):
        defaults = method.__kwdefaults__ or {}
        assert name in defaults, f"{method.__qualname__} has no {name}"
        defaults[name] = deadline_s


DEEDS: dict[str, Callable[..., None]] = {
    "publish": publish,
    "publish_stream": publish_stream,
    "ack": ack,
    "nack": nack,
    "poll": poll,
    "locator": locator,
    "catch_up": catch_up,
    "shift": shift,
    "consumer_create": consumer_create,
    "placement": placement,
    "fence": fence,
    "queue_create": queue_create,
    "domain_add": domain_add,
    "domain_repair": domain_repair,
    "restore": restore,
    "back_up": back_up,
    "restore_backup": restore_backup,
    "init": init,
    **etl.DEEDS,
    **moves.DEEDS,
    **switches.DEEDS,
    **table_switches.DEEDS,
    "publish_many": publish_many,
    "consume_many": consume_many,
}
