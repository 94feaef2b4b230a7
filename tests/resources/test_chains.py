"""How far a chain of edges is: runs, checkpoints, and who is heard."""

from __future__ import annotations

from typing import Any

import pytest

from grafctl.errors import Corrupt
from grafctl.store import segment_keys
from grafctl.store.records import encode_json
from grafctl.store.resources.chains import BeginRun, ChainRow, Checkpoint, chained
from resources.rows import Rows

NAME, EDGES = "orders/ingest", ("raw", "parsed")


def edge(rows: Rows, name: str, generation: int) -> None:
    """Says where an edge is."""
    row: dict[str, Any] = {"generation": generation, "token": 7, "domain": "aws/a", "segment": f"{name}.00"}
    row |= {"kind": "memory", "bytes": 4096, "slots": 4, "slot_bytes": 64}
    rows.rows[segment_keys.edge(name)] = encode_json(row)


@pytest.fixture
def made() -> Rows:
    rows = Rows()
    edge(rows, "raw", 1)
    edge(rows, "parsed", 3)
    return rows


def begin(rows: Rows, *, anew: bool = False) -> ChainRow:
    found: ChainRow = rows.run(BeginRun(NAME, EDGES, anew))
    assert chained(rows, NAME, EDGES).row == found, "the answer is the row"
    return found


def test_a_run_knows_the_generations_of_its_edges(made: Rows) -> None:
    assert chained(made, NAME, EDGES).row is None and not chained(made, NAME, EDGES).is_whole
    first = begin(made)
    assert (first.next, first.digest, first.end, first.edges) == (0, "", None, {"raw": 1, "parsed": 3})
    assert chained(made, NAME, EDGES).is_whole
    edge(made, "parsed", 4)
    found = chained(made, NAME, EDGES)
    assert not found.is_whole and found.edges == {"raw": 1, "parsed": 4}
    second = begin(made)
    assert second.run > first.run and second.edges == found.edges


def test_an_edge_that_nobody_made_has_generation_0(made: Rows) -> None:
    assert chained(made, NAME, (*EDGES, "enriched")).edges == {"raw": 1, "parsed": 3, "enriched": 0}


def test_the_checkpoint_goes_forward_and_stays_for_the_next_run(made: Rows) -> None:
    run = begin(made).run
    made.run(Checkpoint(NAME, run, 10, "aa"))
    for lower in (0, 9, 10):
        entries = len(made.entries)
        assert made.run(Checkpoint(NAME, run, lower, "bb")).next == 10
        assert len(made.entries) == entries, "nothing is written for what is known"
    assert made.run(Checkpoint(NAME, run, 12, "cc", 12)).is_done
    after = begin(made)
    assert (after.next, after.digest, after.end) == (12, "cc", None) and not after.is_done
    anew = begin(made, anew=True)
    assert (anew.next, anew.digest) == (0, "") and anew.run > after.run


def test_an_earlier_run_is_not_heard(made: Rows) -> None:
    old = begin(made).run
    new = begin(made).run
    assert made.run(Checkpoint(NAME, old, 5, "aa", 5)) == chained(made, NAME, EDGES).row
    row = chained(made, NAME, EDGES).row
    assert row is not None and (row.run, row.next, row.end) == (new, 0, None)
    assert made.run(Checkpoint("orders/other", new, 5)) is None, "there is no such chain"


def test_the_end_alone_says_nothing_of_what_is_committed(made: Rows) -> None:
    run = begin(made).run
    row = made.run(Checkpoint(NAME, run, end=7))
    assert (row.next, row.end, row.is_done) == (0, 7, False)
    assert made.run(Checkpoint(NAME, run, 7, "dd")).is_done
    assert made.run(Checkpoint(NAME, begin(made, anew=True).run, end=0)).is_done, "an empty input is done"


WRONG: list[Any] = [
    [], {}, {"run": 1}, {"run": "1", "next": 0, "digest": "", "end": None, "edges": {}},
    {"run": 1, "next": -1, "digest": "", "end": None, "edges": {}},
    {"run": 1, "next": 0, "digest": None, "end": None, "edges": {}},
    {"run": 1, "next": 0, "digest": "", "end": True, "edges": {}},
    {"run": 1, "next": 0, "digest": "", "end": None, "edges": [1]},
    {"run": 1, "next": 0, "digest": "", "end": None, "edges": {"raw": "1"}},
    {"run": 1, "next": 0, "digest": "", "end": None, "edges": {}, "more": 1},
]  # fmt: skip


@pytest.mark.parametrize("row", WRONG)
def test_a_row_that_is_none_is_corrupt(made: Rows, row: Any) -> None:
    made.rows[segment_keys.chain(NAME)] = encode_json(row)
    with pytest.raises(Corrupt, match="The row of chain orders/ingest is not one"):
        chained(made, NAME, EDGES)
