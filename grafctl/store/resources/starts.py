"""Where a group begins or goes on: `earliest`, `latest`, an offset, a moment, or how long back.

Promises
- A text is read once, at the edge (`check_start`); what it means is found inside the request, from the stamps that the
  entries bear, so it is the same whoever asks and whatever his clock says.
- The place of a moment is the first block that was stamped then or later, found in few look-ups in a log of any length.
"""

from __future__ import annotations

from grafctl import units
from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.store import keys
from grafctl.store.records import parse_json
from grafctl.store.replica.state import State
from grafctl.typed import Any, Mapping

WORDS = ("earliest", "latest")


def check_start(text: str) -> str:
    """Returns a text that says where to begin; raises `Usage`."""
    if text not in WORDS and _offset(text) is None:
        _time_of(text)
    return text


def resolve_start(state: State, queue: Mapping[str, Any], text: str, now_ms: int) -> int:
    """Returns the offset that a text means now; raises `Usage`."""
    first, stop = int(queue["first"]), int(queue["next"])
    if text in WORDS:
        return first if text == "earliest" else stop
    offset = _offset(text)
    if offset is not None:
        return max(offset, first)
    number, is_back = _time_of(text)
    moment_ms = now_ms - number if is_back else number
    if moment_ms > now_ms:
        raise Usage(f"The start {shown(text)} lies ahead.", hint="Take `latest` to begin with what is published next.")
    return first_since(state, first, stop, moment_ms)


def _offset(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _time_of(text: str) -> tuple[int, bool]:
    """Returns milliseconds, and whether they are counted back from now."""
    for read, is_back in ((units.duration_ms, True), (units.moment_ms, False)):
        try:
            return read(text), is_back
        except Usage:
            continue
    raise Usage(
        f"{shown(text)} is no start.",
        hint="Write earliest, latest, an offset, a moment such as 2026-01-31T12:00:00Z, or how long back, such as 2h.",
    )


def first_since(state: State, first: int, stop: int, moment_ms: int) -> int:
    """Returns the first offset of the first block that was stamped at a moment or later; stamps never go back."""
    low, high = first, stop  # blocks before `low` are older, the one at `high` is not
    while low < high:
        row, body = next(iter(state.scan(keys.blocks(first, (low + high) // 2 + 1), reverse=True)))
        ref: dict[str, Any] = parse_json(body)
        begin = keys.parse_block(row)
        if ref["ms"] >= moment_ms:
            high = begin
        else:
            low = begin + ref["count"]
    return low
