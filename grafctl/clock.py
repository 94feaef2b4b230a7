"""The only place that knows what time it is and draws random numbers.

Promises
- `now_ms` is wall time, used for stamps, ages and lease deadlines: it decides liveness, never safety.
- `monotonic_s` is for waiting and measuring inside one process.
- `random_u64` and `random_token` come from the operating system, so two processes never share a term or an operation
  key.

A test replaces the wall clock with `GRAFCTL_CLOCK_OFFSET_MS`, so that expiry can be shown without waiting.
"""

from __future__ import annotations

import os
import time

OFFSET_VARIABLE = "GRAFCTL_CLOCK_OFFSET_MS"


def now_ms() -> int:
    """Returns wall-clock time in milliseconds since 1970, moved by `GRAFCTL_CLOCK_OFFSET_MS` where that is set."""
    offset = os.environ.get(OFFSET_VARIABLE)
    return time.time_ns() // 1_000_000 + (int(offset) if offset else 0)


def monotonic_s() -> float:
    """Returns seconds of a clock that never goes back; its zero means nothing."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Waits; here so that nothing else in the package needs to know about time."""
    time.sleep(seconds)


def random_u64() -> int:
    """Returns 64 random bits as an integer."""
    return int.from_bytes(os.urandom(8), "big")


def random_bytes(count: int) -> bytes:
    """Returns that many random bytes."""
    return os.urandom(count)


def random_token(prefix: str) -> str:
    """Returns `prefix_` and 20 lower-case hexadecimal digits."""
    return f"{prefix}_{os.urandom(10).hex()}"


def jitter_s(ceiling_s: float) -> float:
    """Returns a random wait in [0, ceiling), so that two processes that collide do not collide again in step."""
    return ceiling_s * int.from_bytes(os.urandom(2), "big") / 65536
