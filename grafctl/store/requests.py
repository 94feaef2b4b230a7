"""What the log takes and gives: requests that decide on the state at the tail, and outcomes that are committed."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from grafctl import clock
from grafctl.store.records import DATA, NO_DIGEST
from grafctl.store.replica.state import State
from grafctl.store.rules import Config, Term


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


class Outcome(NamedTuple):
    """A committed operation: its answer, and which domains hold it durably."""

    answer: Any
    tail: int
    at: int | None  # index of the entry, None where none was needed
    acked_by: list[str]
    payload_copies: int
    operation: bytes


class Turn(Protocol):
    """The place of a request in a stream of them, passed by each try."""

    def enter(self, term: Term) -> None:
        """Waits until the request before is in the log of this term, or committed."""
        ...

    def appended(self, term: Term) -> None:
        """Says that the request is in the log of this term."""
        ...


class Attempt:
    """What one append remembers between its tries."""

    __slots__ = ("deadline_s", "exclude", "full", "hint", "last", "may_be_written", "operation", "request", "turn")

    def __init__(self, request: Request, operation: bytes, hint: int, deadline_s: float) -> None:
        self.request, self.operation, self.deadline_s = request, operation, deadline_s
        self.hint = hint  # the operation cannot stand before this index
        self.may_be_written = False
        self.last: Decision | None = None
        self.exclude: set[str] = set()
        self.full: set[str] = set()
        self.turn: Turn | None = None

    @property
    def outcome(self) -> str:
        """Returns what an error must say of this append."""
        return "unknown" if self.may_be_written else "not_written"

    @property
    def name(self) -> str | None:
        """Returns the operation key as it is printed, where the outcome is unknown."""
        return f"op_{self.hint:x}_{self.operation.hex()}" if self.may_be_written else None


class Nothing:
    """The request that decides nothing; its append only waits for what is already there."""

    def decide(self, state: State, context: Context) -> Decision:
        return Decision(None)


def new_operation() -> bytes:
    """Returns a new operation key: 16 random bytes."""
    return clock.random_bytes(16)
