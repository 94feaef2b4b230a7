"""What a log carries: its first resource from its beginning, and others that were created in it since.

They change together where one entry says so (`several.py`), and go together: a locator, a replica policy and a catch-up
are the log's. Placement, epoch, groups and retention are each resource's own.

Promises
- Creating what is there changes nothing, so whoever opens a resource may finish what its creator began.
- A number is one resource's for ever. Where another name has it, because an operator gave up what the control log knew,
  nothing is read or written under it.
- In a log that was begun anew after a loss, what it carried before is nobody's to use until an operator says whose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grafctl.errors import GenerationConflict
from grafctl.store import keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.scope import FIRST, whole
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.queue import queue_row

ANEW_MS = "anew_ms"  # in the row of a log's first resource: what was created up to then was lost with all of the log


def numbers(state: State) -> list[int]:
    """Returns the numbers of the resources that a log carries, in order."""
    return [FIRST, *(keys.parse_carried(row) for row, _ in state.scan(keys.all_carried()))]


def policy_row(state: State) -> dict[str, Any]:
    """Returns the row that holds a log's acknowledgement rule (`ack`, `min_payload`): that of its first resource."""
    row: dict[str, Any] = whole(state).get_json(keys.queue())
    return row


def carried_row(state: State, name: str) -> dict[str, Any]:
    """Returns the row of a resource that a log carries; raises `NotFound`, or where its number is another's."""
    row = queue_row(state, name)
    if row["name"] != name:
        raise GenerationConflict(
            f"{name} was given a place in its log that {row['name']} has; the control log has lost that one's name.",
            hint=f"Create {name} under another name; nothing of {row['name']} was touched.",
            resource=name,
        )
    return row


@dataclass(slots=True)
class Create:
    """The request to begin a resource in a log that is there; `row` is its definition."""

    name: str
    row: dict[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        if state.get(keys.queue()) is not None:
            carried_row(state, self.name)
            return Decision(False)
        is_lost = self.row["created_ms"] <= policy_row(state).get(ANEW_MS, -1)
        row = self.row | {"allow": [], "deny": []} if is_lost else self.row
        return Decision(True, encode_json({"do": "create", "row": row}), kind=CTRL)


def apply_create(state: State, entry: Entry, index: int) -> Writes:
    row = entry.request["row"]
    named = {"name": row["name"], "kind": row["kind"]}
    return [json_write(keys.queue(), row), json_write(keys.carried(entry.request["of"]), named)]
