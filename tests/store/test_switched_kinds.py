"""Switches of every kind: how records are matched, how they are delivered, what is kept, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import Busy, DomainUnavailable, GenerationConflict, NotFound, ProofRequired, Usage
from grafctl.store.blocks import Outgoing
from grafctl.store.operations.switching.work import row_of
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.switched import AttachGroup
from grafctl.store.resources.switches import CreateSwitch
from store.switching import (
    AWS,
    GROUP,
    NEW,
    NOW,
    OLD,
    WHO,
    attached,
    drain,
    finished,
    is_once,
    make,
    state,
    status,
    take,
    write,
)
from store.world import World, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with attached(tmp_path / "store") as made:
        yield made


@pytest.mark.parametrize("match", ["key", "json:n"])
def test_records_are_matched_by_what_was_declared(tmp_path: Path, match: str) -> None:
    with attached(tmp_path / "store", match=match) as here:
        store = here.store
        got = take(store, 4)
        store.switches.switch("s", "target", **NOW)
        got += take(store, 2)
        store.switches.rollback("s", **NOW)
        assert is_once(got + drain(store), range(10))


def test_records_of_one_match_key_are_one_piece_of_work(tmp_path: Path) -> None:
    with attached(tmp_path / "store", match="key") as here:
        store = here.store
        again = [Outgoing(b"x", f"again-{n}", f"k-{n}", None) for n in range(3)]
        for name in (OLD, NEW):
            store.publish_batch(name, again, **WHO)
        with pytest.raises(ProofRequired):
            store.switches.switch("s", "target", **NOW)
        got = take(store, 4)
        store.switches.switch("s", "target", **NOW, compare_from="now")
        got += drain(store)
        assert is_once(got, range(10)) and finished(store, "target") == [[0, 13]]


def test_a_record_without_a_match_key_is_a_mismatch_and_comes_again(tmp_path: Path) -> None:
    with attached(tmp_path / "store") as here:
        store = here.store
        for name in (OLD, NEW):
            store.publish(name, b"no id", **WHO)
        got = drain(store)
        with pytest.raises(ProofRequired):
            store.switches.switch("s", "target", **NOW)
        store.switches.switch("s", "target", **NOW, compare_from="now")
        assert drain(store) == ["None"] and is_once(got[:10], range(10))


@pytest.mark.parametrize("semantics", ["at-most-once", "effectively-once"])
def test_every_rule_of_delivery_can_be_switched(tmp_path: Path, semantics: str) -> None:
    with attached(tmp_path / "store", group={"semantics": semantics}) as here:
        store = here.store
        write(store, range(10, 13), OLD)
        got = take_any(store, 12)
        store.switches.switch("s", "target", **NOW, compare_from="now")
        write(store, range(10, 13), NEW)
        while some := take_any(store):
            got += some
        assert is_once(got, range(13))


def take_any(store: Any, count: int = 100) -> list[str]:
    given = store.poll(OLD, GROUP, max=count, **WHO)
    offsets = [record.offset for record in given.records]
    if given.lease is not None:
        store.ack(given.resource, given.group, offsets, lease=given.lease, **WHO)
    return [str(record.id) for record in given.records]


def test_a_topic_with_filters_is_switched_with_what_they_left_out(tmp_path: Path) -> None:
    with attached(tmp_path / "store", topic=True, group={"filter": "expr:n >= 5"}) as here:
        store = here.store
        got = take(store, 2)
        store.switches.switch("s", "target", **NOW)
        assert is_once(got + drain(store), range(5, 10))


@pytest.fixture
def short(tmp_path: Path) -> Iterator[World]:
    """The same where retention keeps as little as it may."""
    with attached(tmp_path / "short", retain_count=1) as made:
        yield made


def test_retention_keeps_what_was_finished_until_it_was_carried(short: World) -> None:
    store = short.store
    write(store, range(10, 12), OLD)
    got = drain(store)
    store.queues.trim(OLD)
    assert first(store, OLD) == 0
    write(store, range(10, 12), NEW)
    store.switches.switch("s", "target", **NOW)
    store.queues.trim(OLD)
    assert first(store, OLD) == 10 and is_once(got + drain(store), range(12))
    write(store, range(12, 30))
    got += drain(store)
    store.queues.trim(NEW)
    assert first(store, NEW) <= 12
    store.switches.rollback("s", **NOW)
    assert is_once(got + drain(store), range(30))
    store.queues.trim(NEW)
    assert first(store, NEW) == 12


def first(store: Any, name: str) -> int:
    with store.session.state(name) as found:
        return int(queue_row(found, name)["first"])


def test_the_gate_is_that_of_both_groups_and_of_the_side_that_opens(here: World) -> None:
    store = here.store
    store.placement.set(NEW, group=GROUP, allow=["gcp"])
    for domain, reason in ((AWS, "not_in_placement"), ("azure", "not_in_placement")):
        for verb in (store.switches.rollback, store.switches.lock):
            with pytest.raises(DomainUnavailable) as refused:
                verb("s", domain=domain)
            assert refused.value.reason == reason and "audit" in refused.value.fields
        with pytest.raises(DomainUnavailable):
            store.switches.switch("s", "target", domain=domain)
    here.observe("gcp", "healthy")
    here.observe("gcp", "unhealthy")
    store.placement.set(OLD, group=GROUP, allow=["gcp"])
    with pytest.raises(DomainUnavailable) as refused:
        store.switches.switch("s", "target", domain="gcp")
    assert refused.value.reason == "unhealthy" and state(store) == ("source", "source")


def test_a_dry_run_writes_nothing(here: World) -> None:
    store = here.store
    before = here.dump()
    for change in (
        store.switches.switch("s", "target", **NOW, dry_run=True),
        store.switches.rollback("s", **NOW, dry_run=True),
        store.switches.detach("s", dry_run=True),
        store.switches.attach("s", source=OLD, target=NEW, group=GROUP, dry_run=True),
    ):
        assert change.dry_run
    assert here.dump() == before


def test_a_window_that_is_not_over_is_not_locked_and_one_that_is_stays(short: World) -> None:
    here, store = short, short.store
    drain(store)
    store.switches.switch("s", "target", **NOW)
    here.advance(599_000)
    with pytest.raises(Busy):
        store.switches.lock("s", domain=AWS)
    here.advance(2_000)
    assert store.switches.lock("s", domain=AWS).changed and not store.switches.lock("s", domain=AWS).changed
    for verb in (store.switches.rollback, store.switches.lock):
        with suppress(GenerationConflict):
            assert not verb("s", domain=AWS).changed
    with pytest.raises(GenerationConflict, match="locked"):
        store.switches.switch("s", "source", **NOW)
    for n in range(10, 30):
        write(store, [n])
    assert is_once(drain(store), range(10, 30))
    store.queues.trim(NEW)
    assert first(store, NEW) > 10
    store.switches.detach("s")
    assert store.poll(NEW, GROUP, **WHO).switch is None
    with pytest.raises(Busy, match="paused"):
        store.poll(OLD, GROUP, **WHO)


def test_a_second_switch_waits_for_the_first(tmp_path: Path) -> None:
    with attached(tmp_path / "store") as here:
        store = here.store
        for name in ("old2", "new2"):
            store.queues.create(name, schema="s", replicas=[f"a={AWS}"], allow=["aws"])
            store.consumers.create(name, GROUP, allow=["aws"])
        store.switches.attach("t", source="old2", target="new2", group=GROUP)
        store.switches.switch("s", "target", **NOW)
        with pytest.raises(Busy, match="s is in flight"):
            store.switches.switch("t", "target", **NOW)
        store.switches.rollback("s", **NOW)
        store.switches.switch("t", "target", **NOW)


def test_what_may_not_be_attached(tmp_path: Path) -> None:
    with world(tmp_path / "store", [AWS, "gcp"]) as here:
        store = here.store
        make(store)
        store.queues.create("third", schema="s", replicas=[f"a={AWS}"], allow=["aws"])
        write(store, range(4))
        store.consumers.create("third", GROUP, allow=["aws"])
        store.consumers.create(NEW, "late", allow=["aws"], start="latest")
        store.consumers.create(NEW, "final", allow=["aws"], semantics="at-most-once")
        store.tables.create("accounts", replicas=[f"a={AWS}"], allow=["aws"], vshards=2)
        cases: list[tuple[type[Exception], dict[str, Any]]] = [
            (Usage, {"target": OLD}),
            (Usage, {"target": "accounts"}),
            (Usage, {"match": "everything"}),
            (Usage, {"fields": ["a..b"]}),
            (Usage, {"window_ms": -1}),
            (Usage, {"risk": "huge"}),
            (Usage, {"shape": ""}),
            (Usage, {"rules": {"max_lag": -1}}),
            (NotFound, {"group": "absent"}),
            (NotFound, {"target": "absent"}),
            (GenerationConflict, {"target_group": "late"}),
            (GenerationConflict, {"target_group": "final"}),  # what it could not finish there would be lost
        ]
        for error, wrong in cases:
            with pytest.raises(error):
                store.switches.attach("s", **{"source": OLD, "target": NEW, "group": GROUP, **wrong})
            assert "attached" not in str(store.switches.status())
        store.switches.attach("s", source=OLD, target=NEW, group=GROUP)
        with pytest.raises(GenerationConflict, match="attached to the switch s"):
            store.switches.attach("t", source="third", target=NEW, group=GROUP)
        assert is_once(drain(store), range(4))


def test_who_attaches_too_late_is_refused(here: World) -> None:
    store = here.store
    generation = row_of(store.session, "s")["generation"]
    store.switches.detach("s")
    for name, side in ((OLD, "source"), (NEW, "target")):
        with pytest.raises(GenerationConflict, match="detached"):
            store.session.resource(name).append(AttachGroup(name, GROUP, "s", side, "id", generation))
    assert len(store.poll(OLD, GROUP, max=3, **WHO).records) == 3
    store.switches.attach("t", source=OLD, target=NEW, group=GROUP)
    assert open_sides_of(store, "t") == ["source"]


def test_who_died_while_he_attached_is_detached_with_what_he_may_still_do(here: World) -> None:
    store = here.store
    store.switches.detach("s")
    store.consumers.resume(NEW, GROUP)
    definition = {side: {"resource": name, "group": GROUP} for side, name in (("source", OLD), ("target", NEW))}
    more = {"match": "id", "compare": {"fields": []}, "rules": {}, "window_ms": 1, "risk": "low", "shape": None}
    row = store.session.control.append(CreateSwitch("s", definition | more)).answer.row
    store.switches.detach("s")
    with pytest.raises(GenerationConflict, match="detached"):
        store.session.resource(OLD).append(AttachGroup(OLD, GROUP, "s", "source", "id", row["generation"]))
    assert is_once(drain(store), range(10))


def open_sides_of(store: Any, name: str) -> list[str]:
    return [side for side in ("source", "target") if status(store, name)[side]["open"]]
