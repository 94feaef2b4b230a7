"""The comparison of two tables of a switch: what is read again, what waits, what is forgiven, and going on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl.errors import (
    Busy,
    ProofRequired,
)
from grafctl.store.operations import tables
from grafctl.store.operations.switching import comparing_tables
from grafctl.store.operations.switching.comparing import comparer_of
from grafctl.store.operations.switching.work import row_of
from store.table_switching import (
    AWS,
    NEW,
    OLD,
    WHO,
    attach,
    counts,
    filled,
    from_where,
    put,
    state,
)
from store.world import World


@pytest.fixture(params=["memory", "lmdb"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with filled(tmp_path / "store", request.param) as made:
        yield made


def test_what_differs_keeps_the_consumer_where_it_is_until_it_is_put_right(here: World) -> None:
    store = here.store
    attach(here)
    put(store, [3], NEW, value="wrong")
    put(store, [20], OLD)
    put(store, [21], NEW)
    store.switches.compare("s", grace_ms=1000, **WHO)
    assert counts(store) == {"matched": 19, "waiting": 3} and state(store) == ("shadow", "source")
    here.advance(1000)
    with pytest.raises(ProofRequired, match="3 mismatches"):
        store.switches.switch("s", "target", **WHO)
    report = store.switches.report("s").fields()
    found = {sample["match_key"]: sample for sample in report["samples"]}
    assert {key: sample["kind"] for key, sample in found.items()} == {
        **{"k003": "different", "k020": "missing", "k021": "extra"},
    }
    assert (found["k003"]["field"], found["k003"]["source_value"], found["k003"]["target_value"]) == (
        *("is", '"row"', '"wrong"'),
    )
    assert from_where(store) == OLD
    put(store, [3, 20, 21])
    store.switches.switch("s", "target", **WHO)
    assert counts(store) == {"matched": 22} and from_where(store) == NEW


def test_what_differs_since_nobody_knows_when_is_in_the_way_until_it_is_judged(here: World) -> None:
    store = here.store
    attach(here)
    put(store, range(1, 20), NEW, value="wrong")
    with pytest.raises(Busy, match=r"19 rows of switch s differ, and nobody knows since when: .* 60,000 ms is over"):
        store.switches.switch("s", "target", **WHO)
    assert counts(store) == {"matched": 1, "waiting": 19} and state(store) == ("shadow", "source")
    report = store.switches.report("s").fields()["compared"]
    assert report["undated"] == 19 and report["mismatches"] is None
    here.advance(30_000)
    with pytest.raises(Busy, match="nobody knows since when"):
        store.switches.switch("s", "target", **WHO)
    put(store, [1], value="both")  # put right
    put(store, [2], OLD, value="late")
    put(store, [2], NEW, value="other")  # written by both just now
    here.advance(30_000)
    with pytest.raises(ProofRequired, match="17 mismatches"):
        store.switches.switch("s", "target", **WHO)
    put(store, range(3, 20), NEW)
    store.switches.switch("s", "target", **WHO)
    assert counts(store) == {"matched": 19, "waiting": 1} and from_where(store) == NEW


def test_a_row_that_was_equal_before_is_not_in_the_way_while_it_is_young(here: World) -> None:
    store = here.store
    attach(here)
    store.switches.compare("s", **WHO)
    put(store, [1, 30], OLD, value="just now")
    store.switches.switch("s", "target", **WHO)
    assert counts(store) == {"matched": 19, "waiting": 2} and from_where(store) == NEW


def test_nobody_is_locked_in_while_nobody_knows_since_when_it_differs(here: World) -> None:
    store = here.store
    attach(here)
    store.switches.switch("s", "target", **WHO)
    put(store, [1], OLD, value="only there")
    store.switches.compare("s", compare_from="start", **WHO)
    with pytest.raises(Busy, match="1 row of switch s differs, and nobody knows"):
        store.switches.lock("s", **WHO)
    assert state(store) == ("soaking", "target")
    here.advance(60_000)
    with pytest.raises(ProofRequired, match="1 mismatch"):
        store.switches.lock("s", **WHO)


def test_only_what_was_written_since_is_read_again(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = here.store
    attach(here)
    store.switches.compare("s", **WHO)
    read: list[tuple[int, int]] = []
    scan = tables.scan_chunks

    def counted(*args: Any, span: tuple[int, int], **how: Any) -> Any:
        read.append(span)
        return scan(*args, span=span, **how)

    monkeypatch.setattr(tables, "scan_chunks", counted)
    store.switches.compare("s", **WHO)
    assert not read
    put(store, [7], value="both")
    store.switches.compare("s", **WHO)
    assert len(read) == 2 and {stop - first for first, stop in read} == {1} and counts(store) == {"matched": 20}
    store.switches.compare("s", compare_from="start", **WHO)
    assert read[2:] == [(0, 8)] * 2


def test_what_comes_while_it_is_compared_is_no_mismatch(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is read first here, and written after that, as the source is: the second look finds them equal."""
    store = here.store
    attach(here)
    rows = comparing_tables.TableComparer._rows

    def late(self: comparing_tables.TableComparer, side: str, span: tuple[int, int]) -> Any:
        found = list(rows(self, side, span))
        if side == "source":
            put(store, [1, 30], value="late")
        return iter(found)

    monkeypatch.setattr(comparing_tables.TableComparer, "_rows", late)
    store.switches.compare("s", grace_ms=0, **WHO)
    assert counts(store) == {"matched": 21}
    monkeypatch.undo()
    put(store, [1], OLD, value="later")
    store.switches.compare("s", grace_ms=0, **WHO)
    assert counts(store) == {"matched": 20, "different": 1}, "what was written meanwhile is compared again"


def test_what_is_written_behind_the_reader_is_compared_the_next_time(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = here.store
    attach(here)
    rows = comparing_tables.TableComparer._rows

    def late(self: comparing_tables.TableComparer, side: str, span: tuple[int, int]) -> Any:
        yield from rows(self, side, span)
        put(store, range(20), OLD, value="late")

    monkeypatch.setattr(comparing_tables.TableComparer, "_rows", late)
    store.switches.compare("s", grace_ms=0, **WHO)
    assert counts(store) == {"matched": 20}
    monkeypatch.undo()
    store.switches.compare("s", grace_ms=0, **WHO)
    assert counts(store) == {"different": 20}


def test_a_comparison_that_is_kept_at_every_piece_goes_on_from_there(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing_tables, "SAVE_S", 0.0)
    store = here.store
    attach(here)
    put(store, [3], NEW, value="wrong")
    generation = row_of(store.session, "s")["generation"]
    read, rows = list[tuple[int, int]](), comparing_tables.TableComparer._rows

    def cut(self: comparing_tables.TableComparer, side: str, span: tuple[int, int]) -> Any:
        read.append(span)
        for count, row in enumerate(rows(self, side, span)):
            if count == 10 and len(read) <= 2:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(comparing_tables.TableComparer, "_rows", cut)
    with pytest.raises(KeyboardInterrupt):
        store.switches.compare("s", grace_ms=0, **WHO)
    kept = row_of(store.session, "s")["shadow"]
    assert kept["mismatches"] in (None, 1) and -1 in kept["source"] and max(kept["source"]) > 0
    store.switches.compare("s", grace_ms=0, **WHO)
    assert read[-1][0] > 0, "what was compared before is not read again"
    assert counts(store) == {"matched": 19, "different": 1}
    assert row_of(store.session, "s")["generation"] == generation


def test_too_much_that_differs_is_told_and_can_be_put_right(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from grafctl.store import switch_rows

    monkeypatch.setattr(switch_rows, "OPEN_MAX", 10)
    store = here.store
    attach(here)
    put(store, range(40, 80), OLD)
    with pytest.raises(Busy, match="source of switch s is too far ahead"):
        store.switches.switch("s", "target", **WHO)
    put(store, range(40, 80), NEW)
    store.switches.switch("s", "target", **WHO)
    assert counts(store) == {"matched": 60}


def test_a_lock_waits_while_too_much_differs_to_be_compared(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from grafctl.store import switch_rows

    store = here.store
    attach(here, rules={"max_mismatches": 1000})
    store.switches.switch("s", "target", **WHO)
    monkeypatch.setattr(switch_rows, "OPEN_MAX", 10)
    put(store, range(40, 80), OLD)
    with pytest.raises(Busy, match="source of switch s is too far ahead"):
        store.switches.lock("s", **WHO)
    assert state(store) == ("soaking", "target")
    put(store, range(40, 80), NEW)
    assert store.switches.lock("s", **WHO).changed


def test_forgiven_is_what_was_found_and_no_more(here: World) -> None:
    store = here.store
    attach(here)
    put(store, [3], NEW, value="wrong")
    store.switches.switch("s", "target", compare_from="now", grace_ms=0, **WHO)
    assert counts(store) == {"matched": 19} and from_where(store) == NEW
    store.switches.soak("s", **WHO)
    put(store, [3], NEW, value="wrong again")
    with pytest.raises(ProofRequired, match="1 mismatch of the two outputs since it was switched"):
        store.switches.soak("s", **WHO)
    assert state(store) == ("rolled_back", "source") and from_where(store) == OLD


@pytest.mark.parametrize("since", ["now", "start"])
def test_what_another_operator_forgives_meanwhile_is_not_taken_back(here: World, since: str) -> None:
    store, session = here.store, here.store.session
    attach(here)
    put(store, [3], NEW, value="wrong")
    store.switches.compare("s", grace_ms=0, compare_from="now" if since == "start" else None, **WHO)
    following = comparer_of(session, "s", row_of(session, "s"), AWS)
    assert following.run().mismatches == (1 if since == "now" else 0)
    store.switches.compare("s", compare_from=since, grace_ms=0, **WHO)
    put(store, [30])
    assert following.run().mismatches == (0 if since == "now" else 1)
    assert counts(store)["matched"] == 20
