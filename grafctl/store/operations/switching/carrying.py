"""Carrying: what one output's group has finished is finished in the other's too, by match key, and delivered there to
nobody.

It is done piece by piece while the one side is open and the other closed, so that little is left for the moment in
which both are. The last piece (`is_final`) is of a side that is closed, so it is all there is: records of which the
other output has no counterpart yet are *owed* there from then on.

Promises
- What was carried once is not looked at again, and a piece that is carried again changes nothing.
- Records are read a piece at a time, whatever there is of them.

When it fails: what was carried stays. Retention keeps what was not.
"""

from __future__ import annotations

from grafctl.store.driver.kill import point
from grafctl.store.intervals import Intervals, difference, from_offsets, intersection, size, take, union
from grafctl.store.operations.switching.matching import matches_of
from grafctl.store.operations.switching.work import Here, Side, covering, here_in, look, other, side_of
from grafctl.store.reading import read_columns
from grafctl.store.replica.replica import Replica
from grafctl.store.resources.carrying import CarryInto, KeepFrom, lags
from grafctl.store.resources.ids import find, hash_record
from grafctl.store.resources.switched import finished_of
from grafctl.store.session import Session
from grafctl.store.switch_match import ID
from grafctl.store.switch_rules import OWED_MAX
from grafctl.typed import Any, Callable, Iterable, Mapping

PIECE = 20_000  # records


def carry(
    session: Session,
    name: str,
    row: Mapping[str, Any],
    *,
    is_final: bool = False,
    least: int = 0,
    beat: Callable[[], object] = lambda: None,
) -> int:
    """Carries what the open side has finished to the other one; returns how many records that one has not got yet.

    With `is_final` these are owed there, or `Busy` (22) is raised where they are too many. `least` is how many entries
    of its log must be looked at.
    """
    giver = side_of(session, name, row, row["side"])
    taker = side_of(session, name, row, other(row["side"]))
    missing: dict[bytes, list[int]] = {}
    count = 0
    while True:
        with covering(giver, least) as committed:
            here, there = here_in(committed.state, giver), look(taker)
            left = _left(here, there, missing)
            piece = take(left, PIECE)
            if not piece:
                break
            replica = Replica(committed.view, giver.log.id, committed.domain)
            parts = read_columns(replica, committed.state, piece, session.held)
            keyed, unkeyed, ids = _keyed(row["match"], parts)
        found = _found(session, taker, there, row["match"], keyed, ids, is_final=is_final)
        came = from_offsets(sorted({at for match in found for at in keyed[match]} | set(unkeyed)))
        ranges = from_offsets(sorted({at for offsets in found.values() for at in offsets}))
        place, generation = taker.place, row["generation"]
        if came or ranges:
            taker.log.append(CarryInto(*place, generation, ranges, came, here.carried.keep))
            point("switching.piece")
        for match in keyed.keys() - found.keys():
            missing.setdefault(match, []).extend(keyed[match])
            count += len(keyed[match])
        if is_final and len(missing) + (there.switch or {}).get("owed", 0) > OWED_MAX:
            raise lags(name, len(missing))
        if not is_final and count > 2 * OWED_MAX:
            break
        beat()
    if is_final and missing:
        owed = from_offsets(sorted(at for offsets in missing.values() for at in offsets))
        taker.log.append(CarryInto(*taker.place, row["generation"], [], owed, 0, sorted(missing)))
        point("switching.owed")
    keep(session, name, row)
    return count


def keep(session: Session, name: str, row: Mapping[str, Any]) -> None:
    """Lets retention of the open side have what was carried."""
    giver = side_of(session, name, row, row["side"])
    here, there = look(giver), look(side_of(session, name, row, other(row["side"])))
    gone = max(here.carried.keep, here.queue["first"])
    known = union(union([[0, gone]] if gone else [], here.carried.got), there.carried.came)
    upto = known[0][1] if known and known[0][0] == 0 else 0
    if upto > here.carried.keep:
        giver.log.append(KeepFrom(*giver.place, row["generation"], upto))
        point("switching.kept")


def _left(here: Here, there: Here, missing: Mapping[bytes, list[int]]) -> Intervals:
    """Returns what the giver has finished and nobody has carried, as far as it can still be read."""
    first, following = max(here.queue["first"], here.carried.keep), here.queue["next"]
    final = intersection(finished_of(here.lineage), [[first, following]] if first < following else [])
    rest = difference(difference(final, here.carried.got), there.carried.came)
    return difference(rest, from_offsets(sorted(at for offsets in missing.values() for at in offsets)))


def _keyed(
    match: str, parts: Iterable[tuple[Any, int, Any]]
) -> tuple[dict[bytes, list[int]], list[int], dict[bytes, str]]:
    """Returns offsets by match key, offsets of records without one, and ids by match key."""
    keyed: dict[bytes, list[int]] = {}
    unkeyed: list[int] = []
    ids: dict[bytes, str] = {}
    for _, first, columns in parts:
        for at, (own, name) in enumerate(zip(matches_of(match, columns), columns.ids, strict=True), first):
            if own is None:
                unkeyed.append(at)
                continue
            keyed.setdefault(own, []).append(at)
            if match == ID and name is not None:
                ids[own] = name
    return keyed, unkeyed, ids


def _found(
    session: Session,
    taker: Side,
    there: Here,
    match: str,
    keyed: Mapping[bytes, list[int]],
    ids: Mapping[bytes, str],
    *,
    is_final: bool,
) -> dict[bytes, list[int]]:
    """Returns the offsets at the taker of the records with these match keys, as far as it has them."""
    with covering(taker) as committed:
        if match == ID:  # its index knows them all, also those that are gone
            order = list(keyed)
            known = find(committed.state, [hash_record(ids[own], b"") for own in order])
            return {order[place]: [item.offset] for place, item in known.items()}
        first, following = there.queue["first"], max(there.queue["next"], here_in(committed.state, taker).queue["next"])
        kept: Intervals = [[first, following]] if first < following else []
        found: dict[bytes, list[int]] = {}
        # What the taker has finished as well is looked through only where it matters that nothing is missed.
        for part in (difference(kept, finished_of(there.lineage)), intersection(kept, finished_of(there.lineage))):
            replica = Replica(committed.view, taker.log.id, committed.domain)
            for _, at, columns in read_columns(replica, committed.state, part, session.held):
                for place, own in enumerate(matches_of(match, columns), at):
                    if own is not None and own in keyed:
                        found.setdefault(own, []).append(place)
            if not is_final or len(found) == len(keyed):
                break
        return found


def is_settled(here: Here, there: Here) -> bool:
    """Returns whether nothing that can be read is left to be carried."""
    return size(_left(here, there, {})) == 0
