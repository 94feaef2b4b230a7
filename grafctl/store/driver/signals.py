"""Holds SIGINT and SIGTERM back while a write is undecided, so that an interrupted command can say what happened.

Promises
- Between `hold` and the matching `release` in the main thread, SIGINT and SIGTERM are recorded; after the last
  `release` each one that came is delivered once, to the handler that was there before. Blocks nest.
- Other threads hold nothing: Python runs handlers in the main thread only.
- A handler that Python did not install, or a signal that is ignored, is left alone.

When it fails
    A signal in the middle of `hold` or `release` leaves the former handlers in place. SIGKILL cannot be held back; the
    driver does not need it to be.
"""

from __future__ import annotations

import threading

from grafctl.bare_signal import signal
from grafctl.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS = (int(signal.SIGINT), int(signal.SIGTERM))
_saved: list[tuple[int, Any]] = []
_pending: set[int] = set()
_depth = 0


def hold() -> bool:
    """Begins to record signals and returns True, or returns False outside the main thread, where nothing is to do."""
    global _depth
    if threading.get_ident() != threading.main_thread().ident:
        return False
    if _depth == 0:
        try:
            _swap()
        except BaseException:
            _restore()
            raise
    _depth += 1
    return True


def release() -> None:
    """Ends one `hold`; the last one puts the handlers back and delivers what was recorded, so it may raise."""
    global _depth
    _depth -= 1
    if _depth == 0:
        try:
            _restore()
        finally:
            if _pending:
                _deliver()


def _record(signum: int, frame: FrameType | None) -> None:
    _pending.add(signum)


def _swap() -> None:
    for signum in _SIGNALS:
        handler = signal.getsignal(signum)
        if handler is not None and handler != signal.SIG_IGN:
            _saved.append((signum, handler))  # before the swap, so that no handler is ever lost
            signal.signal(signum, _record)


def _restore() -> None:
    if _saved:
        try:
            signal.signal(*_saved.pop())
        finally:  # because the handler just put back may raise for a signal that is already waiting
            _restore()


def _deliver() -> None:
    if _pending:
        try:
            signal.raise_signal(_pending.pop())
        finally:
            _deliver()
