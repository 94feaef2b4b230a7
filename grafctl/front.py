"""The front door: runs one command line, and is the only place where an error becomes an exit code.

Promises
- Every refusal is one sentence and one hint on standard error, or one JSON object there when JSON was asked for;
  usage errors too, and never in a box.
- A signal keeps its code (130, 143) and a reader that went away is silent (141). A traceback is printed only with
  GRAFCTL_DEBUG.
- A plain command line is read without the framework (`quick.py`); help, completion and mistakes are the framework's.

When it fails: whatever a command had begun is left as the library leaves it, which is always something it can resume.
"""

from __future__ import annotations

import os

from grafctl import quick, render_output
from grafctl.bare_signal import signal
from grafctl.commands.declared import BadValue, Exit
from grafctl.commands.tree import GROUPS
from grafctl.errors import DriverError, GrafctlError, Internal, StoreFull, Usage, told
from grafctl.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

COMPLETE_VARIABLE = "_GRAFCTL_COMPLETE"
INTERRUPTED, OUTPUT_CLOSED, TERMINATED = 130, 141, 143


class Terminated(BaseException):
    """Raised in the main thread by SIGTERM."""


def run(words: list[str]) -> int:
    """Runs one command line and returns its exit code."""

    def work() -> None:
        call = None if os.environ.get(COMPLETE_VARIABLE) else quick.parse(words)
        if call is not None:
            call()
            return
        text = None if os.environ.get(COMPLETE_VARIABLE) else _told(words)
        if text is not None:
            render_output.write(text.encode())
            return
        from grafctl import cli

        cli.run(words)

    return outcome(words, work)


def _told(words: list[str]) -> str | None:
    """Returns the version or a page of help, where nothing else is asked for."""
    if words == ["--version"]:
        from grafctl import __version__

        return f"grafctl {__version__}\n"
    if words[-1:] == ["--help"]:
        from grafctl import help_page

        return help_page.page(words[:-1])
    return None


def outcome(words: list[str], work: Callable[[], None]) -> int:
    """Does the work of a command line and returns its exit code, everything that may go wrong included."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        _on_signals(before[0], _terminate)
        render_output.prepare()
        work()
        render_output.write(b"")
        return 0
    except BaseException as error:
        # Because a second Ctrl-C must end the telling of the first, not tear it into a traceback.
        _on_signals(signal.SIG_DFL, signal.SIG_DFL)
        if isinstance(error, BadValue):
            error.hint = f"Run 'grafctl {' '.join(words[: 1 + (words[0] in GROUPS)])} --help' for an example."
        return report(error, as_json=wants_json(words))
    finally:
        _on_signals(*before)


# --- what went wrong


def wants_json(words: list[str]) -> bool:
    """Returns whether a command line asks for JSON, also one that cannot be parsed."""
    options = words[: words.index("--")] if "--" in words else words
    formats = ("json", "jsonl")
    return any(
        word == "--json"
        or word in ("-ojson", "-ojsonl", "--output=json", "--output=jsonl")
        or (word in formats and before in ("-o", "--output"))
        for before, word in zip(["", *options], options, strict=False)
    )


def report(error: BaseException, *, as_json: bool) -> int:
    """Tells what ended the command, and returns its exit code."""
    from grafctl import render

    if isinstance(error, Exit):
        return error.code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, (BrokenPipeError, render_output.OutputLost)) and getattr(error, "closed", True):
        render_output.abandon_output()
        return OUTPUT_CLOSED
    if os.environ.get("GRAFCTL_DEBUG"):
        import traceback

        render_output.note("".join(traceback.format_exception(error)))
    if isinstance(error, (KeyboardInterrupt, Terminated)):
        return _report_signal(error, as_json=as_json)
    if isinstance(error, render_output.OutputLost):
        kind = StoreFull if error.full else Usage
        error = kind(str(error), hint="Free the disk or mend the pipe; what was not written is not acknowledged.")
    elif isinstance(error, DriverError):
        error = told(error)
    elif not isinstance(error, GrafctlError):
        error = Internal(
            f"A bug in grafctl: {type(error).__name__}: {error}",
            hint="Run it again with GRAFCTL_DEBUG=1 and report the traceback.",
        )
    render.failure(error.as_json(), as_json=as_json)
    return error.exit_code


def _report_signal(error: BaseException, *, as_json: bool) -> int:
    """Tells what a signal left behind; the library says so in `outcome` and in the notes of the exception."""
    from grafctl import render

    stopped = isinstance(error, Terminated)
    code, word = (TERMINATED, "terminated") if stopped else (INTERRUPTED, "interrupted")
    body: dict[str, Any] = {"v": 1, "ok": False, "code": word, "exit": code, "retryable": True}
    body["message"] = "Stopped by SIGTERM." if stopped else "Interrupted."
    if outcome := getattr(error, "outcome", None):
        body["outcome"] = outcome
    notes = list(getattr(error, "__notes__", ()))
    if as_json and notes:
        body["notes"] = notes
    render.failure(body, as_json=as_json, notes=notes)
    return code


# --- signals


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _on_signals(interrupt: Any, terminate: Any) -> None:
    """Sets what SIGINT and SIGTERM do; only the main thread can, and what is ignored from outside stays ignored."""
    for number, handler in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate)):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            try:
                signal.signal(number, handler)
            except ValueError:
                return
