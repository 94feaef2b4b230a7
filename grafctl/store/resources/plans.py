"""Saved plans that were applied: a row of the control log for each, so that one is done once and never again.

Promises
- A plan is begun before its first step and done after its last; killed in between, the row says so to whoever applies
  it again. What is in its steps is nothing to this file.
- Two files with one id and another content are two plans, and the second is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from grafctl.errors import GenerationConflict
from grafctl.store import keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.typed import Any

BEGUN, DONE = "begun", "done"


@dataclass(slots=True)
class KeepPlan:
    """The request to note how far a plan is; a plan that is done stays done."""

    plan: str
    digest: str
    state: str

    def decide(self, state: State, context: Context) -> Decision:
        there = plan_row(state, self.plan)
        if there is not None and there["digest"] != self.digest:
            raise GenerationConflict(
                f"Another plan of the id {self.plan} was applied to this store.",
                hint="Make a plan anew with `grafctl plan FILE --out PLAN`.",
                plan=self.plan,
            )
        if there is not None and there["state"] in (self.state, DONE):
            return Decision(there)
        row = {"digest": self.digest, "state": self.state, "ms": context.now_ms}
        return Decision(row, encode_json({"do": "plan", "plan": self.plan, "row": row}), kind=CTRL)


def apply_plan(state: State, entry: Entry, index: int) -> Writes:
    return [json_write(keys.plan(entry.request["plan"]), entry.request["row"])]


def plan_row(state: State, plan: str) -> dict[str, Any] | None:
    """Returns what is known of a plan: its digest, whether it is begun or done, and since when."""
    row: dict[str, Any] | None = state.get_json(keys.plan(plan))
    return row
