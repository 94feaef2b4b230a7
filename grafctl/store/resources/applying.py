"""Which function applies which entry: the one table that the log is handed, so that it knows no resource.

Promises
- `apply_entry` is a function of the state and the entry alone; every replica that runs it ends with the same rows.
- An entry that this version does not know stops the replica with `Corrupt`; it is never skipped.
- A module is imported with the first entry that needs it: a publish does not pay for groups, proofs and audit.
"""

from __future__ import annotations

from grafctl.errors import Corrupt
from grafctl.store.records import Entry
from grafctl.store.replica.replica import Apply
from grafctl.store.replica.scope import placed, scoped
from grafctl.store.replica.state import State, Writes

MODULES = {
    "start": "membership",
    "locator": "membership",
    "placement": "membership",
    "fence": "membership",
    "proof": "membership",
    "publish": "queue",
    "trim": "retention",
    "group": "consumers",
    "pause": "consumers",
    "seek": "consumers",
    "redrive": "consumers",
    "lease": "group",
    "finalise": "group",
    "give_back": "group",
    "renew": "renewing",
    "reserve": "idem",
    "effects": "effects",
    "release": "idem",
    "expire": "idem",
    "bury": "burying",
    "register": "control",
    "authority": "control",
    "observe": "control",
    "forget": "control",
    "plan": "plans",
    "schema": "schemas",
    "note": "audit",
    "create": "carried",
    "several": "several",
    "put": "table",
    "vshard": "moving",
    "copy": "receiving",
    "replay": "receiving",
    "open": "receiving",
    "drop": "receiving",
    "route": "routes",
    "edge": "edges",
    "chain": "chains",
    "segment": "segments",
    "segment_end": "segments",
    "switch": "switches",
    "switching": "switched",
}  # what an entry does -> the module of this package whose `apply_…` applies it

_loaded: dict[str, Apply] = {}


def apply_entry(state: State, entry: Entry, index: int) -> Writes:
    """Returns the writes of an entry, in the rows of the resource that it is of."""
    change = entry.request.get("do")
    apply = _loaded.get(change)  # type: ignore[arg-type]
    if apply is None:
        if change not in MODULES:
            raise Corrupt(f"Entry {index} does {change!r}, which this version does not know.", hint="Upgrade grafctl.")
        apply = _loaded[change] = function_for(change)
    number = entry.request.get("of")
    if number is None:
        return apply(state, entry, index)
    return placed(apply(scoped(state, number), entry, index), number)


def function_for(change: str) -> Apply:
    """Returns the function that applies what an entry does."""
    module = __import__(f"grafctl.store.resources.{MODULES[change]}", fromlist=["resources"])
    apply: Apply = getattr(module, f"apply_{change}")
    return apply
