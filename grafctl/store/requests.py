"""What the log takes and gives: requests that decide on the state at the tail, and outcomes that are committed."""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import Busy, Damaged, DriverError, Full, GrafctlError, Locked, OutcomeUnknown, Timeout, Unreachable
from grafctl.store.records import DATA, NO_DIGEST, NO_OPERATION
from grafctl.store.replica.state import State
from grafctl.store.rules import NO_TERM, Config, Term
from grafctl.typed import TYPE_CHECKING, Any, Mapping, NamedTuple, Protocol

if TYPE_CHECKING:
    from grafctl.store.replica.replica import Appended, Draft


class Context(NamedTuple):
    """What `decide` may know beside the state: where its entry would stand, and when."""

    at: int  # index
    now_ms: int
    config: Config


class Decision(NamedTuple):
    """What `decide` returns: an entry to append (or none), and the answer that holds once it is committed."""

    answer: Any
    meta: bytes | None = None
    block: bytes = b""
    block_digest: bytes = NO_DIGEST
    kind: int = DATA


class Request(Protocol):
    """One operation on a log, decided on the state at its tail, inside the transaction that writes."""

    def decide(self, state: State, context: Context) -> Decision:
        """Returns the decision or raises the refusal; may be called again, so it must not remember."""
        ...


class Done(NamedTuple):
    """What a try of an append has come to so far."""

    answer: Any
    at: int | None = None  # index of its entry
    draft: Draft | None = None  # still to be appended
    fresh: Appended | None = None  # appended by this try


class Outcome(NamedTuple):
    """A committed operation: its answer, and which domains hold it durably."""

    answer: Any
    tail: int
    at: int | None  # index of the entry, None where none was needed
    acked_by: list[str]
    payload_copies: int
    operation: bytes
    term: Term = NO_TERM  # in which it was committed: a replica of this term, or a later one, with that tail holds it


class Turn(Protocol):
    """The place of a request in a stream of them, passed by each try."""

    def enter(self, term: Term) -> None:
        """Waits until the request before is in the log of this term, or committed."""
        ...

    def appended(self, term: Term) -> None:
        """Says that the request is in the log of this term."""
        ...


FREEING = frozenset(("finalise", "give_back", "trim", "release", "expire", "segment_end"))
PROTECTING = frozenset(("fence", "pause", "placement"))


def may_use_reserve(entry: Mapping[str, Any]) -> bool:
    """Returns whether an entry frees or protects something, or tells the audit of it, and so may use the reserve."""
    change = entry.get("do")
    return change in FREEING or change in PROTECTING or (change == "note" and entry["record"]["outcome"] == "changed")


class Attempt:
    """What one append remembers between its tries."""

    __slots__ = (
        "deadline_s", "exclude", "full", "hint", "lock_wait_s", "may_be_written", "operation", "request", "tried",
        "turn",
    )  # fmt: skip

    def __init__(self, request: Request, operation: bytes, hint: int, deadline_s: float) -> None:
        self.request, self.operation, self.deadline_s = request, operation, deadline_s
        self.hint = hint  # the operation cannot stand before this index
        self.may_be_written = False
        self.tried: dict[tuple[int, Term], Any] = {}  # where an entry was to stand, in which term -> its answer
        self.exclude: set[str] = set()
        self.full: set[str] = set()
        self.turn: Turn | None = None
        self.lock_wait_s: float | None = None  # how long to wait for the primary's lock, and then give up

    def blame(self, error: DriverError) -> None:
        """Remembers which domain not to ask again; raises `Busy` where the caller would not wait for a lock so long."""
        if self.lock_wait_s is not None and isinstance(error, Locked):
            raise self.own(Busy(f"{error.domain}: {error.why}.", outcome=self.outcome)) from None
        if isinstance(error, Full) and error.grown:
            return
        if isinstance(error, OutcomeUnknown):
            self.may_be_written = True
        if isinstance(error, Full):
            self.full.add(error.domain)
        if isinstance(error, (Full, OutcomeUnknown, Damaged, Unreachable)):
            self.exclude.add(error.domain)

    def require_kept(self, floor: int) -> None:
        """Raises `Timeout` where an earlier try may stand before the first entry that is kept: nobody can tell then."""
        if any(at < floor for at, _ in self.tried):
            raise Timeout(
                "Whether it was written is unknown: the log was shortened meanwhile.",
                hint="Read what is there, and run the same command again where it is missing.",
                outcome="unknown",
                operation=self.name,
            )

    @property
    def is_reserved(self) -> bool:
        """Returns whether this append may use the reserve, also for the election that it needs."""
        return bool(getattr(self.request, "reserved", False))

    @property
    def outcome(self) -> str:
        """Returns what an error must say of this append."""
        return "unknown" if self.may_be_written else "not_written"

    @property
    def name(self) -> str | None:
        """Returns the operation key as it is printed, where the outcome is unknown."""
        is_named = self.may_be_written and self.operation != NO_OPERATION
        return operation_name(self.hint, self.operation) if is_named else None

    def own(self, error: GrafctlError) -> GrafctlError:
        """Lets an error from a step that knows nothing of this append say what came of it."""
        if self.may_be_written:
            error.message += " Whether it was written is unknown."
            error.fields |= {"outcome": self.outcome} | ({"operation": self.name} if self.name else {})
        return error


class Nothing:
    """The request that decides nothing; its append only waits for what is already there."""

    def decide(self, state: State, context: Context) -> Decision:
        return Decision(None)


OPERATION_BYTES, STEM_BYTES = 16, 14


def new_operation() -> bytes:
    """Returns a new operation key: 14 random bytes, and a place in an entry that several requests may share."""
    return clock.random_bytes(STEM_BYTES) + bytes(OPERATION_BYTES - STEM_BYTES)


def operation_of(operation: bytes, place: int) -> bytes:
    """Returns the operation key of the request that has this place in the entry of `operation`."""
    return operation[:STEM_BYTES] + (_place(operation) + place).to_bytes(OPERATION_BYTES - STEM_BYTES, "big")


def place_in(operation: bytes, sought: bytes) -> int | None:
    """Returns the place of the request `sought` in the entry of `operation`, or None where it cannot be in it."""
    place = _place(sought) - _place(operation)
    return place if operation[:STEM_BYTES] == sought[:STEM_BYTES] and place >= 0 else None


def _place(operation: bytes) -> int:
    return int.from_bytes(operation[STEM_BYTES:], "big")


def operation_name(hint: int, operation: bytes) -> str:
    """Returns an operation key as it is printed."""
    return f"op_{hint:x}_{operation.hex()}"


def error_of(error: GrafctlError, place: int) -> GrafctlError:
    """Returns the error of an entry as the error of the request that has this place in it."""
    from copy import copy

    own = copy(error)
    own.fields = dict(error.fields)
    if isinstance(name := own.fields.get("operation"), str):
        stem, _, key = name.rpartition("_")
        own.fields["operation"] = f"{stem}_{operation_of(bytes.fromhex(key), place).hex()}"
    return own
