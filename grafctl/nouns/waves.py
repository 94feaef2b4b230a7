"""`consumer plan`: a declared wave, in the order in which its consumers are switched, with the reason for each place.

Promises
- Looking changes nothing. Without a store the order is told; with one also how far each consumer is, and which of them
  would not be begun, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.declare.switchover import DeclaredConsumer, DeclaredWave, read
from grafctl.errors import GrafctlError
from grafctl.nouns.switches import Switches
from grafctl.results import Change, Shown
from grafctl.store import wave_rules
from grafctl.store.operations.switching.tables import are_tables
from grafctl.store.operations.switching.work import all_rows, pass_gate
from grafctl.store.session import Session
from grafctl.store.switch_rules import LOCKED, ROLLED_BACK, SOURCE, TABLE, TARGET, in_flight, left_ms
from grafctl.store.wave_rules import BLOCKED, IN_FLIGHT, SOAKED, WAITING, WENT_BACK, Place, next_of, ordered, value_text

Rows = Mapping[str, Mapping[str, Any]]


def plan_file(file: Path) -> Shown:
    """Returns what a file declares, in order; no store is asked."""
    wave = read(file)
    return Shown({**head(wave, file), "consumers": [fields(wave, place) for place in numbered(wave)]})


def plan(session: Session, file: Path, *, domain: str | None = None, lock: bool = True, again: bool = False) -> Shown:
    """Returns what a file declares, in order, with how far a store is with it.

    With a domain it says what `consumer wave` would do from there: nothing, where that is refused for one of them.
    """
    wave = read(file)
    rows, places = all_rows(session), numbered(wave)
    notes, standings, refused = dict[str, str | None](), dict[str, str](), set[str]()
    for consumer in wave.consumers:
        row = rows.get(consumer.name)
        standing = standing_of(wave.name, row, waits_for_lock=not lock, again=again)
        notes[consumer.name] = None
        if standing == WAITING:
            notes[consumer.name] = _refusal(session, consumer, domain)
            refused.update([consumer.name] if notes[consumer.name] else [])
            notes[consumer.name] = notes[consumer.name] or _difference(row)
        standings[consumer.name] = BLOCKED if notes[consumer.name] else standing
    order = [place.member for _, place in places]
    now = next_of(order, standings, wave.at_once, wave.stops)
    items, actions = [], list[str]()
    for number, place in places:
        name, standing = place.member.name, standings[place.member.name]
        row = rows.get(name)
        note = notes[name] or now.held.get(name) or (why_of(row) if standing == WENT_BACK else None)
        state = None if row is None else row["state"]
        items.append(fields(wave, (number, place)) | {"state": state, "standing": standing, "note": note})
        if note is None and standing in (WAITING, IN_FLIGHT) and not refused:
            actions += _actions(wave.consumer(name), row, lock=lock)
    body = {**head(wave, file), "halted": now.halted, "consumers": items}
    return Shown(body if domain is None else {**body, "changed": bool(actions), "dry_run": True, "actions": actions})


def _refusal(session: Session, consumer: DeclaredConsumer, domain: str | None) -> str | None:
    """Returns why a consumer cannot be attached, which a wave is refused for."""
    try:
        check(session, consumer, domain)
    except GrafctlError as error:
        return error.message
    return None


def _difference(row: Mapping[str, Any] | None) -> str | None:
    """Returns why a consumer that is attached would not be begun."""
    mismatches = (row or {}).get("shadow", {}).get("mismatches")
    return f"Its outputs differ: {mismatches:,} mismatch{'' if mismatches == 1 else 'es'}." if mismatches else None


def _actions(consumer: DeclaredConsumer, row: Mapping[str, Any] | None, *, lock: bool) -> list[str]:
    """Returns what is left to do for a consumer, if all goes well."""
    name, resource = consumer.name, consumer.target
    steps = [f"attach {name}"] if row is None else []
    steps += (
        [] if row is not None and row["side"] == TARGET else [f"switch {name} to {consumer.target_group} of {resource}"]
    )
    left = consumer.window_ms if row is None else (left_ms(row, clock.now_ms()) or consumer.window_ms)
    return [*steps, f"watch {name} for {left:,} ms", *([f"lock {name}"] if lock else [])]


# --- what a plan and a run have in common


def attach(session: Session, consumer: DeclaredConsumer, *, dry_run: bool = False) -> Change:
    """Ties a declared consumer's groups to its switch; the same again changes nothing."""
    return Switches(session).attach(
        consumer.name,
        source=consumer.source,
        target=consumer.target,
        group=consumer.group,
        target_group=consumer.target_group,
        match=consumer.match,
        fields=consumer.fields,
        window_ms=consumer.window_ms,
        rules=consumer.rules,
        risk=consumer.member.risk,
        shape=consumer.member.shape,
        dry_run=dry_run,
    )


def check(session: Session, consumer: DeclaredConsumer, domain: str | None) -> None:
    """Raises why a consumer cannot be attached as it is declared, or why a domain may not act for it."""
    attach(session, consumer, dry_run=True)
    if domain is not None:
        sides = {SOURCE: (consumer.source, consumer.group), TARGET: (consumer.target, consumer.target_group)}
        places: dict[str, Any] = {side: {"resource": name, "group": group} for side, (name, group) in sides.items()}
        places |= {"kind": TABLE} if are_tables(session, places) else {}
        pass_gate(session, consumer.name, places, domain, TARGET)


def standing_of(wave: str, row: Mapping[str, Any] | None, *, waits_for_lock: bool = False, again: bool = False) -> str:
    """Returns where a consumer stands, as its switch in the store says.

    One that somebody else brought back, or another wave, waits for this one; what the comparison says of those that
    wait is not asked here.
    """
    if row is None:
        return WAITING
    if row["state"] == LOCKED:
        return wave_rules.LOCKED
    if in_flight(row):
        return SOAKED if waits_for_lock and left_ms(row, clock.now_ms()) == 0 else IN_FLIGHT
    is_ours = (row["wave"] or {}).get("name") == wave
    return WENT_BACK if row["state"] == ROLLED_BACK and is_ours and not again else WAITING


def why_of(row: Mapping[str, Any] | None) -> str | None:
    """Returns why the last flip of a switch was made."""
    return str(row["flips"][-1]["why"]) if row is not None and row["flips"] else None


def numbered(wave: DeclaredWave) -> list[tuple[int, Place]]:
    """Returns the consumers of a wave in the order in which they begin, each with its number in it."""
    places = ordered((consumer.member for consumer in wave.consumers), wave.high_value)
    return list(enumerate(places, 1))


def head(wave: DeclaredWave, file: Path) -> dict[str, Any]:
    """Returns what a wave is."""
    stops = {name: value for name, value in wave.stops._asdict().items() if value is not None}
    return {"wave": wave.name, "file": str(file), "at_once": wave.at_once, "stops": stops}


def fields(wave: DeclaredWave, place: tuple[int, Place]) -> dict[str, Any]:
    """Returns what a consumer is, and why it has its place."""
    number, (member, reason) = place
    consumer = wave.consumer(member.name)
    return {
        "place": number,
        "consumer": consumer.name,
        "shape": member.shape,
        "risk": member.risk,
        "value": value_text(member),
        "source": {"resource": consumer.source, "group": consumer.group},
        "target": {"resource": consumer.target, "group": consumer.target_group},
        "window_ms": consumer.window_ms,
        "reason": reason,
        "line": consumer.lines[""],
    }
