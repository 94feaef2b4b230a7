"""Records that a consumer will never be able to work on: dead letters at once, each with its reason.

Promises
- Only the holder of the lease may bury, and what is buried is in its lease no more; it comes again only by a redrive.
"""

from __future__ import annotations

from dataclasses import dataclass

from grafctl.errors import Usage
from grafctl.store import keys
from grafctl.store.authority import NACK
from grafctl.store.intervals import difference, from_offsets, union
from grafctl.store.records import Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.delivery import within
from grafctl.store.resources.group import Caller, group_row, lineage_of, not_leased
from grafctl.store.resources.leases import Leases

LETTERS_MAX = 10_000
REASON_CHARACTERS_MAX = 500


@dataclass(slots=True)
class Bury:
    """The request to make leased records dead letters: (offset, reason) of each; a reason holds no payload."""

    caller: Caller
    letters: list[tuple[int, str]]
    token: int

    def decide(self, state: State, context: Context) -> Decision:
        if not 0 < len(self.letters) <= LETTERS_MAX:
            raise Usage(f"1 to {LETTERS_MAX:,} records are buried at once, not {len(self.letters):,}.")
        _, group = self.caller.pass_gate(NACK, state)
        held = union(Leases(state, group["lineage"]).held_by(self.caller.group, self.token), [])
        if lost := difference(from_offsets([offset for offset, _ in self.letters]), held):
            raise not_leased(self.caller, lost, self.token)
        letters = [[offset, reason[:REASON_CHARACTERS_MAX]] for offset, reason in sorted(self.letters)]
        return Decision(len(letters), encode_json({"do": "bury", "group": self.caller.group, "letters": letters}))


def apply_bury(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    name = group_row(state, "", request["group"])["lineage"]
    lineage, leases = lineage_of(state, name), Leases(state, name)
    ranges = from_offsets([offset for offset, _ in request["letters"]])
    grants = [grant for lease in leases.rows.values() for grant in within(lease["grants"], ranges)]
    deliveries = {offset: count for start, stop, count in grants for offset in range(start, stop)}
    lineage.leased = difference(lineage.leased, ranges)
    lineage.dead = union(lineage.dead, lineage.unfinished(ranges))
    leases.take_out(lineage, ranges)
    writes = leases.writes()
    for offset, reason in request["letters"]:
        letter = {"group": request["group"], "deliveries": deliveries.get(offset, 1), "reason": reason}
        writes.append(json_write(keys.dead(name, offset), letter | {"ms": entry.stamped_ms}))
    return [*writes, json_write(keys.lineage(name), lineage.as_row())]
