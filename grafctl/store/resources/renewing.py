"""Holding a lease longer: the holder moves its deadline to a new one.

Promises
- Only a lease that is not over is renewed, and only by the group that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

from grafctl.errors import Fenced
from grafctl.store import keys
from grafctl.store.authority import ACK
from grafctl.store.records import Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.group import Caller, group_row, lineage_of
from grafctl.store.resources.leases import Leases


@dataclass(slots=True)
class Renew:
    """The request to hold a lease longer."""

    caller: Caller
    token: int
    visibility_ms: int

    def decide(self, state: State, context: Context) -> Decision:
        _, group = self.caller.pass_gate(ACK, state)
        lease = state.get_json(keys.lease(group["lineage"], self.token))
        if lease is None or lease["group"] != self.caller.group:
            raise Fenced(
                f"Lease {self.token} of {self.caller.group} is over.",
                hint="Poll again; the records are given out anew.",
                resource=self.caller.resource,
                group=self.caller.group,
            )
        until = context.now_ms + self.visibility_ms
        meta = {"do": "renew", "group": self.caller.group, "token": self.token, "until": until}
        return Decision(until, encode_json(meta))


def apply_renew(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    name = group_row(state, "", request["group"])["lineage"]
    lineage = lineage_of(state, name)
    leases = Leases(state, name)
    leases.rows[request["token"]] = leases.rows[request["token"]] | {"until": request["until"]}
    lineage.deadline_ms = leases.deadline_ms()
    return [*leases.writes(), json_write(keys.lineage(name), lineage.as_row())]
