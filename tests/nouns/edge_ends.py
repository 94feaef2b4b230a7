"""Both ends of one edge, open in one process, and what tests of them ask about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from store.world import World

from grafctl.edges.answers import Taken
from grafctl.errors import GrafctlError
from grafctl.nouns.edge_handles import EdgeReader, EdgeWriter
from grafctl.store.records import CTRL, encode_json
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Decision

AWS, GCP, TERM_MS = "aws", "gcp", 1_000_000
LEASE: dict[str, Any] = {"domain": AWS, "bytes": 4096, "owner": "me", "term_ms": TERM_MS}


class Ends(NamedTuple):
    """A store with both ends of an edge of four slots open."""

    world: World
    writer: EdgeWriter
    reader: EdgeReader


def payloads(taken: Taken) -> list[bytes]:
    return [record.payload for record in taken.records]


def refused(kind: type[GrafctlError], call: Callable[[], object], state: str | None, *, recoverable: bool) -> Any:
    with pytest.raises(kind) as error:
        call()
    assert type(error.value) is kind and error.value.fields.get("state") == state, error.value.as_json()
    assert error.value.fields["recoverable"] is recoverable and "audit" in error.value.fields
    return error.value


class Forged(NamedTuple):
    """An entry that puts any row where an edge is."""

    row: Any

    def decide(self, state: State, context: Context) -> Decision:
        return Decision(None, encode_json({"do": "edge", "name": "e", "row": self.row}), kind=CTRL)


def row_of(here: World) -> dict[str, Any]:
    from grafctl.store.checked import checked
    from grafctl.store.resources.edges import handoff_of

    return checked(here.store.session.control, lambda state: handoff_of(state, "e"))._asdict()


def reads_of(here: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that grows with every look at the control log."""
    looks: list[str] = []
    log = here.store.session.control
    view = log.view

    def counted(*args: Any) -> Any:
        looks.append("look")
        return view(*args)

    monkeypatch.setattr(log, "view", counted)
    return looks
