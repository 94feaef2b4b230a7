"""Ctrl-C and SIGTERM while one record is being published: the command says what became of it before it ends.

Promises
- Inside `Undecided` the first signal waits until the block has ended, and then does what it would have done; its
  exception has in `outcome` what became of the record: `published`, `not_written` or `unknown`.
- The second signal does not wait, for somebody who does not want to either; then the outcome is unknown.
- Handlers that Python did not install, and signals that are ignored, are left alone; so is every thread but the main.

When it fails: SIGKILL cannot be held back. An `--id` makes the same command safe to run again, whatever happened.
"""

from __future__ import annotations

from grafctl.bare_signal import signal
from grafctl.errors import GrafctlError
from grafctl.typed import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from types import FrameType, TracebackType

PUBLISHED, NOT_WRITTEN, UNKNOWN = "published", "not_written", "unknown"
NOTES = {
    PUBLISHED: "The record is published.",
    NOT_WRITTEN: "Nothing was written.",
    UNKNOWN: "Whether the record is published is unknown; with its --id the same command is safe to run again.",
}


class Undecided:
    """A block whose outcome is told also when a signal ends it: publishing one record and printing where it is."""

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._came: int | None = None

    def __enter__(self) -> Undecided:
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                self._before[number] = handler
                try:
                    signal.signal(number, self._take)
                except ValueError:  # another thread than the main one
                    self._before.clear()
                    break
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:
            self._deliver(number, UNKNOWN, frame)
        self._came = number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._came is None or not (error is None or isinstance(error, GrafctlError)):
            return
        outcome, *notes = _told(error)
        self._deliver(self._came, outcome, None, *notes)

    def _deliver(self, number: int, outcome: str, frame: FrameType | None, *notes: str) -> None:
        try:
            self._before[number](number, frame)
        except BaseException as error:
            error.outcome = outcome  # type: ignore[attr-defined]
            for note in notes or (NOTES[outcome],):
                error.add_note(note)
            raise


def _told(error: GrafctlError | None) -> tuple[str, ...]:
    """Returns the outcome of a block, and what is to be said of the error that ended it."""
    if error is None:
        return (PUBLISHED,)
    operation = error.fields.get("operation")
    again = (f"Run the same command with --operation {operation} to learn it.",) if operation else ()
    return (str(error.fields.get("outcome", NOT_WRITTEN)), error.message, *again)
