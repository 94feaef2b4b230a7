"""The functions of `signal` without the enumerations that it wraps them in, which take as long to import as a publish.

`signal.getsignal` and `signal.signal` call these and turn numbers into members of an enumeration that equal them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    try:
        import _signal as signal
    except ImportError:
        import signal

__all__ = ["signal"]
