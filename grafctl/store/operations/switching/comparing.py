"""The comparison of both outputs of a switch, which has to pass before a consumer is switched to the target.

Promises
- Every record that both outputs keep is compared with its counterpart, byte by byte, in both directions.
- A record that only one output has counts as a mismatch, and so does one that comes twice or has no match key.
"""

from __future__ import annotations

from grafctl.store.intervals import Intervals
from grafctl.store.operations.switching.matching import matches_of
from grafctl.store.operations.switching.work import Side, covering, side_of
from grafctl.store.reading import read_columns
from grafctl.store.records import digest
from grafctl.store.replica.replica import Replica
from grafctl.store.resources.queue import records_row
from grafctl.store.resources.switches import NoteShadow
from grafctl.store.session import Session
from grafctl.store.switch_rules import SIDES, SOURCE, TARGET
from grafctl.typed import Any, Iterator, Mapping, NamedTuple


class Comparison(NamedTuple):
    """What a comparison came to: how many mismatches stand in the way of a switch, and what the row keeps of it."""

    mismatches: int
    shadow: dict[str, Any]


def compare(
    session: Session,
    name: str,
    row: Mapping[str, Any],
    domain: str,
    *,
    compare_from: str | None = None,
    begins: bool = False,
) -> Comparison:
    """Compares what is new in both outputs, keeps the result with `NoteShadow`, and returns all that is known.

    `row` is the switch as it was read just before, `domain` the caller's, where the records are read if they can be.
    With `compare_from="now"` what was judged before is forgiven. `begins` is handed to `NoteShadow`: a switch that was
    rolled back is tried again. `shadow["mismatches"]` is what `BeginClosing` asks for.
    """
    kept = {side: _read(session, side_of(session, name, row, side), row["match"], domain) for side in SIDES}
    source, target = kept[SOURCE][0], kept[TARGET][0]
    counts = {
        "compared": len(source.keys() & target.keys()),
        "missing": len(source.keys() - target.keys()),
        "extra": len(target.keys() - source.keys()),
        "different": sum(source[key] != target[key] for key in source.keys() & target.keys()),
        "repeated": kept[SOURCE][1] + kept[TARGET][1],
        "unmatched": kept[SOURCE][2] + kept[TARGET][2],
    }
    found = sum(count for what, count in counts.items() if what != "compared")
    if compare_from == "now":
        found = 0
    shadow = {**counts, "mismatches": found}
    session.control.append(NoteShadow(name, row["generation"], shadow, begins))
    return Comparison(found, shadow)


def _read(session: Session, side: Side, match: str, domain: str) -> tuple[dict[bytes, bytes], int, int]:
    """Returns the digest of each record by its match key, and how many come again or have none."""
    keyed: dict[bytes, bytes] = {}
    repeated = unmatched = 0
    for key, body in _records(session, side, match, domain):
        if key is None:
            unmatched += 1
        elif key in keyed:
            repeated += 1
        else:
            keyed[key] = body
    return keyed, repeated, unmatched


def _records(session: Session, side: Side, match: str, domain: str) -> Iterator[tuple[bytes | None, bytes]]:
    with covering(side, 0, domain) as committed:
        queue = records_row(committed.state, side.resource)
        kept: Intervals = [[queue["first"], queue["next"]]] if queue["first"] < queue["next"] else []
        replica = Replica(committed.view, side.log.id, committed.domain)
        for _, _, columns in read_columns(replica, committed.state, kept, session.held):
            bodies = (
                digest(payload + repr(key).encode())
                for payload, key in zip(columns.payloads, columns.keys, strict=True)
            )
            yield from zip(matches_of(match, columns), bodies, strict=True)
