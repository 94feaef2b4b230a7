"""Ctrl-C and SIGTERM while something is being changed: the command says what became of it before it ends.

Promises
- Inside `Undecided` the first signal waits until the block has ended, and then does what it would have done; its
  exception has in `outcome` what became of the change: `published` or `done`, `not_written` or `unknown`; where it is
  unknown, a note names the command that tells.
- Inside `resumable` a signal is obeyed at once, because the work may be long; the same command goes on.
- Inside `migrating` too, and it looks afterwards how far each vshard is and says which command goes on.
- The second signal does not wait, for somebody who does not want to either; then the outcome is unknown.
- Handlers that Python did not install, and signals that are ignored, are left alone; so is every thread but the main.

When it fails: SIGKILL cannot be held back. An `--id` makes a publish safe to run again, whatever happened; every other
command is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager

from grafctl.bare_signal import signal
from grafctl.errors import (
    ConfirmationRequired,
    DomainUnavailable,
    Fenced,
    GenerationConflict,
    GrafctlError,
    HealthRejected,
    InvalidConfig,
    NotFound,
    ProofRequired,
    Usage,
)
from grafctl.store.vshards import ranges_text
from grafctl.typed import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

if TYPE_CHECKING:
    from types import FrameType, TracebackType

PUBLISHED, DONE, NOT_WRITTEN, UNKNOWN = "published", "done", "not_written", "unknown"
KEPT = "kept"  # a migration stands where it was stopped, and goes on from there
AGAIN = "Run the same command again: it finishes what was begun, and changes nothing where all is done."
NOTES = {
    DONE: "It is done.",
    PUBLISHED: "The record is published.",
    NOT_WRITTEN: "Nothing was written.",
    UNKNOWN: "Whether the record is published is unknown; with its --id the same command is safe to run again.",
}


class Undecided:
    """A block whose outcome is told also when a signal ends it: publishing one record and printing where it is."""

    done, unknown = PUBLISHED, NOTES[UNKNOWN]

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
            self._deliver(number, UNKNOWN, frame, self.unknown)
        self._came = number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._came is None or not (error is None or isinstance(error, GrafctlError)):
            return
        outcome, *notes = self.told(error)
        self._deliver(self._came, outcome, None, *notes)

    def _deliver(self, number: int, outcome: str, frame: FrameType | None, *notes: str) -> None:
        try:
            self._before[number](number, frame)
        except BaseException as error:
            error.outcome = outcome  # type: ignore[attr-defined]
            for note in notes or (NOTES[outcome],):
                error.add_note(note)
            raise

    def told(self, error: GrafctlError | None) -> tuple[str, ...]:
        """Returns the outcome of the block, and what is to be said of the error that ended it."""
        if error is None:
            return (self.done,)
        operation = error.fields.get("operation")
        again = (f"Run the same command with --operation {operation} to learn it.",) if operation else ()
        return (str(error.fields.get("outcome", NOT_WRITTEN)), error.message, *again)


class _Change(Undecided):
    """A block that changes something in one step or several, and prints what."""

    done, unknown = DONE, f"Whether it is done is unknown. {AGAIN}"

    def __init__(self, refusals: tuple[type[GrafctlError], ...]) -> None:
        super().__init__()
        self._refusals = refusals  # after which nothing is changed

    def told(self, error: GrafctlError | None) -> tuple[str, ...]:
        if error is None:
            return (self.done,)
        if isinstance(error, self._refusals):
            return (NOT_WRITTEN, error.message)
        return (UNKNOWN, error.message, self.unknown)  # since an earlier step may have been taken


_BEFORE_ALL = (Usage, NotFound, ConfirmationRequired, InvalidConfig)
_OF_ONE_STEP = (*_BEFORE_ALL, DomainUnavailable, Fenced, GenerationConflict, HealthRejected, ProofRequired)


def change(dry_run: bool = False, *, several: bool = False) -> AbstractContextManager[object]:
    """Returns the block of a command that changes something; with `several` steps a refusal may come after one."""
    return resumable(dry_run) if dry_run else _Change(_BEFORE_ALL if several else _OF_ONE_STEP)


@contextmanager
def resumable(dry_run: bool = False) -> Iterator[None]:
    """A block that may be long, or changes nothing: a signal ends it at once."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if not hasattr(error, "outcome"):
            outcome, note = (NOT_WRITTEN, NOTES[NOT_WRITTEN]) if dry_run else (UNKNOWN, _Change.unknown)
            error.outcome = outcome  # type: ignore[attr-defined]
            error.add_note(note)
        raise


@contextmanager
def migrating(
    look: Callable[[], Sequence[Mapping[str, Any]]], table: str, domain: str, *, dry_run: bool = False
) -> Iterator[None]:
    """A block that moves vshards of a table: after a signal it says how far `look` finds each of them."""
    try:
        with resumable(dry_run):
            yield
    except Exception:
        raise
    except BaseException as error:
        if not dry_run:
            error.__notes__ = []
            error.outcome, notes = _left(look, table, domain)  # type: ignore[attr-defined]
            for note in notes:
                error.add_note(note)
        raise


def _left(look: Callable[[], Sequence[Mapping[str, Any]]], table: str, domain: str) -> tuple[str, list[str]]:
    """Returns the outcome of a migration that a signal ended, and a sentence for each state there is."""
    by_state: dict[str, list[int]] = {}
    try:
        for item in look():
            by_state.setdefault(item["state"], []).append(item["vshard"])
    except GrafctlError as error:
        return UNKNOWN, [error.message, f"Run `grafctl vshard status {table}` to see how far it is."]
    notes = [_stands(state, numbers, table, domain) for state, numbers in by_state.items()]
    if by_state.keys() <= {"idle"}:
        return NOT_WRITTEN, [NOTES[NOT_WRITTEN]]
    return (DONE if by_state.keys() <= {"completed", "reversed"} else KEPT), notes


def _stands(state: str, numbers: list[int], table: str, domain: str) -> str:
    """Returns where vshards in one state stand, and which command goes on."""
    text = ranges_text(numbers)
    subject = f"{'vshard' if len(numbers) == 1 else 'vshards'} {text} of {table}: {state}"
    resume = f"`grafctl vshard resume {table} {text} -d {domain}`"
    cancel = f"`grafctl vshard cancel {table} {text} -d {domain}`"
    ends = {
        "idle": "nothing was begun",
        "completed": "it is done",
        "reversed": "it is done",
        "cancelled": f"the rest of the copy is still to be removed; {cancel} goes on",
        "cutover": f"its writers wait for a moment at most; {resume} finishes it",
    }
    return f"{subject}, {ends.get(state, f'the copy is kept and writers go on; {resume} goes on, {cancel} undoes it')}."
