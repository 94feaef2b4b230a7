"""A switch of two tables: who reads through it, what is compared, how it is turned, soaked, locked and taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import (
    Busy,
    DomainUnavailable,
    Fenced,
    GenerationConflict,
    NoQuorum,
    NotFound,
    ProofRequired,
    Usage,
)
from grafctl.store.operations import tables
from grafctl.store.operations.switching import turning
from grafctl.store.operations.switching.work import row_of
from store.table_switching import (
    AWS,
    GCP,
    GROUP,
    NEW,
    OLD,
    READ,
    WHO,
    attach,
    filled,
    from_where,
    make,
    put,
    state,
)
from store.world import World, world


@pytest.fixture(params=["memory", "lmdb"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with filled(tmp_path / "store", request.param) as made:
        yield made


def test_from_the_beginning_to_the_end(here: World) -> None:
    store = here.store
    assert from_where(store) is None, "who is attached to nothing reads the table that he names"
    attach(here)
    assert from_where(store) == OLD and state(store) == ("source", "source")
    put(store, [1], OLD, value="old")
    put(store, [1], NEW, value="old")
    change = store.switches.switch("s", "target", **WHO)
    assert change.changed and change.after is not None
    assert change.after["cursors"] == {"source": {"writes": 21}, "target": {"writes": 21}}
    assert state(store) == ("soaking", "target") and from_where(store) == NEW
    assert not store.switches.switch("s", "target", **WHO).changed
    assert store.switches.rollback("s", **WHO).changed and from_where(store) == OLD
    assert not store.switches.rollback("s", **WHO).changed
    store.switches.switch("s", "target", **WHO)
    assert [row.resource for row in store.tables.scan(OLD, **READ)] == [NEW] * 20
    assert store.tables.get(NEW, "k001", **READ).resource == NEW, "the other name leads there too"
    assert store.tables.get(OLD, "k001", **WHO).resource is None, "who says not who he is reads what he names"
    assert store.switches.lock("s", **WHO).changed and not store.switches.lock("s", **WHO).changed
    with pytest.raises(GenerationConflict, match="no way back"):
        store.switches.rollback("s", **WHO)


def test_a_regression_takes_it_back_and_a_lock_waits_for_the_window(here: World) -> None:
    store = here.store
    attach(here, window_ms=60_000)
    store.switches.switch("s", "target", grace_ms=0, **WHO)
    store.switches.soak("s", **WHO)
    with pytest.raises(Busy, match="ms to go"):
        store.switches.lock("s", **WHO)
    here.advance(60_000)
    put(store, [5], OLD, value="only old")
    with pytest.raises(ProofRequired, match="1 mismatch of the two outputs"):
        store.switches.lock("s", **WHO)
    assert from_where(store) == OLD
    flips = store.switches.report("s").fields()["flips"]
    assert flips[-1]["why"].startswith("regression: 1 mismatch")


@pytest.mark.parametrize("is_locked", [False, True])
def test_detached_it_reads_what_it_names_or_is_told_what_to_name(here: World, is_locked: bool) -> None:
    store = here.store
    attach(here)
    if is_locked:
        store.switches.switch("s", "target", **WHO)
        with pytest.raises(GenerationConflict, match="in flight"):
            store.switches.detach("s")
        store.switches.lock("s", **WHO)
    store.switches.detach("s", dry_run=True)
    assert from_where(store) == (NEW if is_locked else OLD)
    store.switches.detach("s")
    assert store.tables.get(NEW, "k001", **READ).resource is None
    if not is_locked:
        assert from_where(store) is None
        return
    with pytest.raises(Fenced, match="moved to new by the switch s, for good") as caught:
        from_where(store)
    assert caught.value.exit_code == 14 and "Read new instead" in str(caught.value.hint)
    assert "audit" in caught.value.fields
    with pytest.raises(Fenced):
        list(store.tables.scan(OLD, **READ))
    attach(here)  # who attaches it again means it
    assert from_where(store) == OLD


def test_a_read_across_a_flip_is_of_the_side_that_is_open_then(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = here.store
    attach(here)
    assert from_where(store) == OLD
    put(store, range(20), NEW, value="new")
    store.switches.compare("s", compare_from="now", grace_ms=0, **WHO)
    get, asked = tables.get, list[str]()

    def flipped(session: Any, name: str, *args: Any, **how: Any) -> Any:
        asked.append(name)
        found = get(session, name, *args, **how)
        if len(asked) == 1:
            store.switches.switch("s", "target", **WHO)
        return found

    monkeypatch.setattr(tables, "get", flipped)
    row = store.tables.get(OLD, "k001", **READ)
    assert row.resource == NEW and b"new" in row.value and OLD in asked


@pytest.mark.parametrize("where", ["scan_chunks", "flip"])
def test_two_operators_who_want_the_same_help_each_other(
    here: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store = here.store
    attach(here)
    others: list[Any] = [lambda: store.switches.switch("s", "target", **WHO)]
    module, name = (tables, "scan_chunks") if where == "scan_chunks" else (turning, "flip_tables")
    late = getattr(module, name)

    def outrun(*args: Any, **how: Any) -> Any:
        while others:
            others.pop()()
        return late(*args, **how)

    monkeypatch.setattr(module, name, outrun)
    change = store.switches.switch("s", "target", **WHO)
    assert state(store) == ("soaking", "target") and change.after is not None
    assert change.after["state"] == "soaking" and not change.changed
    if where == "flip":
        others.append(lambda: store.switches.rollback("s", **WHO))
        assert not store.switches.rollback("s", **WHO).changed and state(store) == ("rolled_back", "source")
        others.append(lambda: store.switches.rollback("s", **WHO))
        with pytest.raises(GenerationConflict, match="rolled_back"):  # who wants another thing is refused
            store.switches.switch("s", "target", **WHO)
        assert state(store) == ("rolled_back", "source")


def test_a_scan_across_a_flip_ends_and_names_the_table_of_its_rows(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_CHUNK_ROWS", 5)
    store = here.store
    attach(here)
    found = []
    with pytest.raises(GenerationConflict, match="flipped while group billing scanned old") as caught:
        for row in store.tables.scan(OLD, **READ):
            found.append(row)
            if len(found) == 1:
                store.switches.switch("s", "target", **WHO)
    assert {row.resource for row in found} == {OLD} and len(found) == 5 and caught.value.exit_code == 13
    rows = store.tables.scan(OLD, **READ)
    store.switches.rollback("s", **WHO)
    assert {row.resource for row in rows} == {OLD}, "nothing was read yet"


def test_a_scan_whose_rows_were_read_at_once_ends_with_a_flip_too(here: World) -> None:
    store = here.store
    attach(here)
    rows = store.tables.scan(OLD, **READ)
    assert next(rows).resource == OLD
    store.switches.switch("s", "target", **WHO)
    with pytest.raises(GenerationConflict, match="flipped while group billing scanned old"):
        list(rows)
    assert len(list(store.tables.scan(OLD, **READ))) == 20


def test_a_group_of_a_queue_is_no_reader_of_a_table(here: World) -> None:
    store = here.store
    for name in ("before", "after"):
        store.queues.create(name, replicas=[f"a={AWS}", f"g={GCP}"], allow=[AWS])
        store.consumers.create(name, GROUP, allow=[AWS])
    store.switches.attach("q", source="before", target="after", group=GROUP)
    store.poll("before", GROUP, **WHO)
    with pytest.raises(NotFound, match="before is a queue, not a table"):
        store.tables.get("before", "k", **READ)
    attach(here)
    assert from_where(store) == OLD


def test_it_is_refused_what_tables_do_not_have(here: World) -> None:
    store = here.store
    with pytest.raises(Usage, match="counterparts by their key"):
        attach(here, match="json:n")
    with pytest.raises(Usage, match="--max-lag, --max-idle would say nothing"):
        attach(here, rules={"max_lag": 1, "max_idle_ms": 5, "max_mismatches": 0})
    with pytest.raises(NotFound):
        store.switches.attach("s", source=OLD, target="nothing", group=GROUP)
    store.queues.create("orders", replicas=[f"a={AWS}", f"g={GCP}"], allow=[AWS])
    for source, target in ((OLD, "orders"), ("orders", NEW)):
        with pytest.raises(Usage, match="is a table, and orders is none"):
            store.switches.attach("s", source=source, target=target, group=GROUP)
    make(store, "wide", vshards=16)
    with pytest.raises(Usage, match="8 vshards and wide has 16"):
        store.switches.attach("s", source=OLD, target="wide", group=GROUP)
    with pytest.raises(Usage, match="group"):
        store.tables.get(OLD, "k", domain=AWS, group="no/group")
    with pytest.raises(NotFound):
        store.switches.status("s")


def test_one_switch_a_group_and_one_in_flight(here: World) -> None:
    store = here.store
    attach(here)
    attach(here)
    with pytest.raises(GenerationConflict, match="another window_ms") as caught:
        attach(here, window_ms=5)
    assert "`grafctl consumer detach s` comes first" in str(caught.value.hint)
    make(store, "third")
    with pytest.raises(GenerationConflict, match="attached to the switch s already"):
        store.switches.attach("t", source="third", target=NEW, group=GROUP)
    store.switches.attach("t", source=OLD, target=NEW, group="other", window_ms=0)
    store.switches.switch("s", "target", **WHO)
    assert store.tables.get(OLD, "k001", domain=AWS, group="other").resource == OLD
    with pytest.raises(Busy, match="in flight"):
        store.switches.switch("t", "target", **WHO)
    store.switches.lock("s", **WHO)
    store.switches.switch("t", "target", **WHO)


def test_domains_that_may_not_are_refused_and_it_is_audited(tmp_path: Path) -> None:
    with world(tmp_path / "store", [AWS, GCP], "memory") as here:
        store = here.store
        make(store, OLD)
        make(store, NEW, allow=[AWS])
        put(store, range(3))
        attach(here)
        for verb in (store.switches.rollback, store.switches.lock, store.switches.compare, store.switches.soak):
            with pytest.raises(DomainUnavailable) as caught:
                verb("s", domain=GCP)
            assert "audit" in caught.value.fields
        with pytest.raises(DomainUnavailable):
            store.switches.switch("s", "target", domain=GCP)
        assert state(store) == ("source", "source")
        assert store.tables.get(OLD, "k001", domain=GCP, group=GROUP).resource == OLD
        store.switches.switch("s", "target", **WHO)
        with pytest.raises(DomainUnavailable, match="new"):
            store.tables.get(OLD, "k001", domain=GCP, group=GROUP)


def test_a_read_through_a_switch_needs_a_quorum_of_the_control_log(tmp_path: Path) -> None:
    with world(tmp_path / "store", [AWS, GCP, "azure"]) as here:
        for name in (OLD, NEW):
            here.store.tables.create(name, replicas=[f"a={AWS}"], allow=[AWS], vshards=8)
        put(here.store, range(3))
        attach(here)
        for domain in (GCP, "azure"):
            here.store.domains.fail(domain)
        assert here.store.tables.get(OLD, "k001", **WHO).version == 1
        with pytest.raises(NoQuorum):
            here.store.tables.get(OLD, "k001", **READ)


def test_a_dry_run_changes_nothing(here: World) -> None:
    store = here.store
    attach(here, dry_run=True)
    with pytest.raises(NotFound):
        store.switches.status("s")
    attach(here)
    before = row_of(store.session, "s")
    for change in (store.switches.switch("s", "target", dry_run=True, **WHO), store.switches.detach("s", dry_run=True)):
        assert change.changed and change.dry_run and change.actions
    store.switches.compare("s", dry_run=True, **WHO)
    assert row_of(store.session, "s") == before


def test_status_says_how_much_either_side_has(here: World) -> None:
    attach(here)
    put(here.store, [50], OLD)
    shown = here.store.switches.status("s").as_json()
    assert shown["source"] == {
        **{"resource": OLD, "group": GROUP, "open": True, "records": 21, "writes": 21},
        **{"bytes": shown["source"]["bytes"]},
    }
    assert shown["target"]["open"] is False and shown["target"]["records"] == 20
