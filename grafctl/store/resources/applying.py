"""Which function applies which entry: the one table that the log is handed, so that it knows no resource.

Promises
- `apply_entry` is a function of the state and the entry alone; every replica that runs it ends with the same rows.
- An entry that this version does not know stops the replica with `Corrupt`; it is never skipped.
"""

from __future__ import annotations

from grafctl.errors import Corrupt
from grafctl.store.records import Entry
from grafctl.store.replica.replica import Apply
from grafctl.store.replica.state import State, Writes
from grafctl.store.resources import audit, consumers, control, group, membership, queue

APPLY: dict[str, Apply] = {
    "start": membership.apply_start,
    "locator": membership.apply_locator,
    "placement": membership.apply_placement,
    "fence": membership.apply_fence,
    "proof": membership.apply_proof,
    "publish": queue.apply_publish,
    "trim": queue.apply_trim,
    "group": consumers.apply_group,
    "pause": consumers.apply_pause,
    "seek": consumers.apply_seek,
    "redrive": consumers.apply_redrive,
    "lease": group.apply_lease,
    "finalise": group.apply_finalise,
    "give_back": group.apply_give_back,
    "renew": group.apply_renew,
    "register": control.apply_register,
    "authority": control.apply_authority,
    "observe": control.apply_observe,
    "note": audit.apply_note,
}


def apply_entry(state: State, entry: Entry, index: int) -> Writes:
    """Returns the writes of an entry."""
    change = entry.request.get("do")
    apply = APPLY.get(change)  # type: ignore[arg-type]
    if apply is None:
        raise Corrupt(f"Entry {index} does {change!r}, which this version does not know.", hint="Upgrade grafctl.")
    return apply(state, entry, index)
