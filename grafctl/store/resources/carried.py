"""What a log carries: its first resource from its beginning, and others that were created in it since.

They change together where one entry says so (`several.py`), and go together: a locator, a replica policy and a catch-up
are the log's. Placement, epoch, groups and retention are each resource's own.

Promises
- Creating what is there changes nothing, so whoever opens a resource may finish what its creator began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grafctl.store import keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.scope import FIRST, whole
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision


def numbers(state: State) -> list[int]:
    """Returns the numbers of the resources that a log carries, in order."""
    return [FIRST, *(keys.parse_carried(row) for row, _ in state.scan(keys.all_carried()))]


def policy_row(state: State) -> dict[str, Any]:
    """Returns the row that holds a log's acknowledgement rule (`ack`, `min_payload`): that of its first resource."""
    row: dict[str, Any] = whole(state).get_json(keys.queue())
    return row


@dataclass(slots=True)
class Create:
    """The request to begin a resource in a log that is there; `row` is its definition."""

    row: dict[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        if state.get(keys.queue()) is not None:
            return Decision(False)
        return Decision(True, encode_json({"do": "create", "row": self.row}), kind=CTRL)


def apply_create(state: State, entry: Entry, index: int) -> Writes:
    row = entry.request["row"]
    named = {"name": row["name"], "kind": row["kind"]}
    return [json_write(keys.queue(), row), json_write(keys.carried(entry.request["of"]), named)]
