"""The only place that knows what time it is and draws random numbers.

Promises
- `now_ms` is wall time, used for stamps, ages and lease deadlines: it decides liveness, never safety.
- `monotonic_s` is for waiting and measuring inside one process.
- `random_u64` and `random_token` come from the operating system, so two processes never share a term or an operation
  key.

A test replaces the wall clock with `GRAFCTL_CLOCK_OFFSET_MS`, so that expiry can be shown without waiting; a simulator
replaces all of it (`stand_in`), so that one seed decides everything.
"""

from __future__ import annotations

import os
import time

from grafctl.typed import TYPE_CHECKING, Protocol

OFFSET_VARIABLE = "GRAFCTL_CLOCK_OFFSET_MS"

if TYPE_CHECKING:

    class Source(Protocol):
        """What can stand in for the clocks and the dice of the machine."""

        def now_ms(self) -> int: ...
        def monotonic_s(self) -> float: ...
        def sleep(self, seconds: float) -> None: ...
        def random_bytes(self, count: int) -> bytes: ...


_source: Source | None = None


def stand_in(source: Source | None) -> Source | None:
    """Takes time and random numbers from `source` from now on, or from the machine; returns what was there before."""
    global _source
    before, _source = _source, source
    return before


def now_ms() -> int:
    """Returns wall-clock time in milliseconds since 1970, moved by `GRAFCTL_CLOCK_OFFSET_MS` where that is set."""
    if _source is not None:
        return _source.now_ms()
    offset = os.environ.get(OFFSET_VARIABLE)
    return time.time_ns() // 1_000_000 + (int(offset) if offset else 0)


def monotonic_s() -> float:
    """Returns seconds of a clock that never goes back; its zero means nothing."""
    return time.monotonic() if _source is None else _source.monotonic_s()


def sleep(seconds: float) -> None:
    """Waits; here so that nothing else in the package needs to know about time."""
    if _source is None:
        time.sleep(seconds)
    else:
        _source.sleep(seconds)


def random_u64() -> int:
    """Returns 64 random bits as an integer."""
    return int.from_bytes(random_bytes(8), "big")


def random_bytes(count: int) -> bytes:
    """Returns that many random bytes."""
    return os.urandom(count) if _source is None else _source.random_bytes(count)


def random_token(prefix: str) -> str:
    """Returns `prefix_` and 20 lower-case hexadecimal digits."""
    return f"{prefix}_{random_bytes(10).hex()}"


def jitter_s(ceiling_s: float) -> float:
    """Returns a random wait in [0, ceiling), so that two processes that collide do not collide again in step."""
    return ceiling_s * int.from_bytes(random_bytes(2), "big") / 65536
