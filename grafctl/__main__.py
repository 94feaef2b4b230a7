"""The process: `grafctl …` and `python -m grafctl …`; everything else begins in `grafctl.front`.

Promises
- Ctrl-C while the program is still being imported ends it like any other command (130), without a traceback.
- The process ends as soon as its output is flushed: tearing down the interpreter would cost more than many commands.

When it fails: nothing has been read or written yet.
"""

import gc
import os
import sys

from grafctl.bare_signal import signal
from grafctl.typed import NoReturn


def main() -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    # Imports make many objects and no garbage, so collecting between them is time lost.
    gc.disable()
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from grafctl import front

    gc.freeze()
    gc.enable()
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _end(front.run(sys.argv[1:]))


def _end(code: int) -> NoReturn:
    """Ends the process once its output is flushed; `front.run` has reported what went wrong."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
