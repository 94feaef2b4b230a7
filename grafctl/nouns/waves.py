"""`consumer plan`: a declared wave, in the order in which its consumers are switched, with the reason for each place.

Promises
- Looking changes nothing, and needs no store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafctl.declare.switchover import DeclaredWave, read
from grafctl.results import Shown
from grafctl.store.wave_rules import Place, ordered, value_text


def plan_file(file: Path) -> Shown:
    """Returns what a file declares, in order; no store is asked."""
    return plan(read(file), file)


def plan(wave: DeclaredWave, file: Path) -> Shown:
    """Returns a wave with its consumers in order."""
    places = places_of(wave)
    return Shown(
        {
            "wave": wave.name,
            "file": str(file),
            "at_once": wave.at_once,
            "stops": {name: value for name, value in wave.stops._asdict().items() if value is not None},
            "consumers": [_fields(wave, number, place) for number, place in enumerate(places, 1)],
        }
    )


def places_of(wave: DeclaredWave) -> list[Place]:
    """Returns the consumers of a wave in the order in which they begin."""
    return ordered((consumer.member for consumer in wave.consumers), wave.high_value)


def _fields(wave: DeclaredWave, number: int, place: Place) -> dict[str, Any]:
    consumer = wave.consumer(place.member.name)
    return {
        "place": number,
        "consumer": consumer.name,
        "shape": place.member.shape,
        "risk": place.member.risk,
        "value": value_text(place.member),
        "source": {"resource": consumer.source, "group": consumer.group},
        "target": {"resource": consumer.target, "group": consumer.target_group},
        "window_ms": consumer.window_ms,
        "reason": place.reason,
        "line": consumer.lines[""],
    }
