"""The audit log: one entry for each change of who may do what, and for each refusal, bound by the log's own hash chain.

Promises
- A record's number is its place in the log's history; nothing renumbers or removes it.
- Identical refusals within a minute are one record with a count, not many.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from grafctl.store import keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.typed import Any, Mapping

REPEAT_MS = 60_000
_SAME = ("op", "resource", "group", "domain", "code", "reason", "lease")


def sameness(record: Mapping[str, Any]) -> bytes:
    """Returns the hash of what makes two refusals the same."""
    return hashlib.sha256(encode_json([record.get(name) for name in _SAME])).digest()[:16]


@dataclass(slots=True)
class Note:
    """The request to keep a record; a refusal that was kept a moment ago is answered with that record's number."""

    record: Mapping[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        if self.record["outcome"] == "refused":
            last = state.get_json(keys.refusal(sameness(self.record)))
            if last is not None and context.now_ms - last["ms"] < REPEAT_MS:
                return Decision((last["number"], True))
        number = (state.get_json(keys.audit_counters()) or {"count": 0})["count"]
        return Decision((number, False), encode_json({"do": "note", "record": dict(self.record)}), kind=CTRL)


def apply_note(state: State, entry: Entry, index: int) -> Writes:
    record = entry.request["record"]
    number = (state.get_json(keys.audit_counters()) or {"count": 0})["count"]
    writes: Writes = [json_write(keys.audit_counters(), {"count": number + 1})]
    if record["outcome"] == "refused":
        writes.append(json_write(keys.refusal(sameness(record)), {"number": number, "ms": entry.stamped_ms}))
    return writes
