"""Named places at which a test makes the process die or stop.

Promises
- `point` costs a few tens of nanoseconds where neither variable is set: it is compiled in always, so what is tested is
  what is shipped.
- `GRAFCTL_KILL_AT="name:n"` sends SIGKILL to the process at the n-th hit of `name`; `GRAFCTL_STOP_AT` sends SIGSTOP.

When it fails
    A malformed variable is a `ValueError` at the first point reached: a kill test that never kills would prove nothing.
"""

from __future__ import annotations

import os

from grafctl.bare_signal import signal

KILL_VARIABLE = "GRAFCTL_KILL_AT"
STOP_VARIABLE = "GRAFCTL_STOP_AT"

_plan: dict[str, tuple[int, int]] | None = None
_hits: dict[str, int] = {}


def point(name: str) -> None:
    """Counts a hit of `name` and sends the signal that the environment asked for at this hit."""
    if _plan is None:
        _read_plan()
    if _plan:
        _hit(name)


def _read_plan() -> None:
    global _plan
    plan: dict[str, tuple[int, int]] = {}
    for variable, signum in ((KILL_VARIABLE, signal.SIGKILL), (STOP_VARIABLE, signal.SIGSTOP)):
        text = os.environ.get(variable)
        if text:
            name, _, count = text.rpartition(":")
            plan[name] = (int(count), signum)
    _plan = plan


def _hit(name: str) -> None:
    assert _plan is not None
    if name in _plan:
        _hits[name] = _hits.get(name, 0) + 1
        count, signum = _plan[name]
        if _hits[name] == count:
            os.kill(os.getpid(), signum)
