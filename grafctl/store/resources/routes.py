"""Routes: where to look first for a vshard that was moved, as rows of the control log.

A vshard without a row is in its table's home at generation 1. A route is a hint: the log that owns a vshard is the
truth, and says where it went. What the hint saves is a look at each log that it went through.

Promises
- A route goes from one generation to a later one by a compare-and-set of its row; an older one changes nothing.
"""

from __future__ import annotations

from grafctl.store import vshard_keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.typed import NamedTuple


class Route(NamedTuple):
    """Which log of a table a vshard is in, since which generation of its own."""

    part: str
    generation: int


class SetRoute(NamedTuple):
    """The request to say that a vshard is in this part since this generation."""

    table: str
    vshard: int
    part: str
    generation: int

    def decide(self, state: State, context: Context) -> Decision:
        there = state.get_json(vshard_keys.route(self.table, self.vshard)) or {"part": self.table, "generation": 1}
        if there["generation"] >= self.generation:
            return Decision(False)
        meta = {"do": "route", "table": self.table, "vs": self.vshard, "from": there["generation"]}
        meta |= {"to": {"part": self.part, "generation": self.generation}}
        return Decision(True, encode_json(meta), kind=CTRL)


def apply_route(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    return [json_write(vshard_keys.route(request["table"], request["vs"]), request["to"])]


def routes_of(state: State, table: str) -> dict[int, Route]:
    """Returns the vshards of a table that are not where it began, as far as the hints say."""
    import json

    span = vshard_keys.routes(table)
    return {vshard_keys.parse_vshard(row): Route(**json.loads(body)) for row, body in state.scan(span)}
