"""Group commit: those who wait for one log at the same time share its next entry (compare DeWitt et al., 1984).

The first to come leads: it appends for itself. Who comes meanwhile waits; when the leader is done, one of those leads
and takes all the others with it. So nobody ever waits for company, and one caller alone pays next to nothing.

Promises
- Each member gets an answer or an error of its own, only after the entry that holds its part is committed.
- A member whose outcome is unknown gets an operation key of its own, by which another try finds its part.
- A member that gives up before its part was taken leaves nothing behind.

When it fails: an error of the entry is an error of each member; a leader that is interrupted tells its members that
their outcome is unknown.
"""

from __future__ import annotations

from collections import deque

from grafctl import clock, threads
from grafctl.errors import GrafctlError, Timeout
from grafctl.store.log import Log
from grafctl.store.requests import Outcome, Request, error_of, new_operation, operation_name, operation_of
from grafctl.typed import Any, Callable, Protocol

MEMBERS_MAX = 1000


class Joining(Request, Protocol):
    """A request that may share an entry with others."""

    @property
    def kin(self) -> tuple[object, ...]:
        """Requests of equal kin may share an entry."""
        ...

    @property
    def size(self) -> int:
        """About how many bytes it adds to an entry."""
        ...

    def prepare(self) -> None:
        """Does what can be done before any lock is taken."""
        ...


Join = Callable[[list[Any]], Joining]  # one request of several; its answer lists an answer, or the refusal, of each


class _Member:
    """One caller who waits."""

    __slots__ = ("deadline_s", "error", "is_taken", "outcome", "request", "turn")

    def __init__(self, request: Any, deadline_s: float) -> None:
        self.request = request
        self.deadline_s = deadline_s
        self.turn = threads.lock()  # held until this member has its outcome, or is to lead
        self.turn.acquire()
        self.is_taken = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None


class GroupCommit:
    """The callers of one process who append to one log."""

    def __init__(self, log: Log, join: Join, bytes_max: int) -> None:
        self.log = log
        self._join = join
        self._bytes_max = bytes_max
        self._lock = threads.lock()
        self._waiting: deque[_Member] = deque()
        self._is_led = False

    def append(self, request: Joining, deadline_s: float) -> Outcome:
        """Appends the request, alone or with others, and returns its outcome; raises what `Log.append` does."""
        with self._lock:
            if not self._is_led:
                self._is_led, member = True, None
            else:
                member = _Member(request, clock.monotonic_s() + deadline_s)
                self._waiting.append(member)
        if member is None:
            try:
                request.prepare()
                return self.log.append(request, deadline_s=deadline_s)
            finally:
                self._pass_on()
        self._wait(member)
        if member.outcome is None and member.error is None:
            self._lead(member)
        if member.error is not None:
            raise member.error
        assert member.outcome is not None
        return member.outcome

    def _wait(self, member: _Member) -> None:
        """Waits until the member has an outcome or is to lead; withdraws it at its deadline, if it is not taken."""
        try:
            if member.turn.acquire(timeout=max(0.0, member.deadline_s - clock.monotonic_s())):
                return
            self._withdraw(member)
        except BaseException:
            self._withdraw(member)
            raise
        if member.is_taken:
            member.turn.acquire()
            return
        raise Timeout(
            "Others kept the log busy until the deadline.", hint="Run the same command again.", outcome="not_written"
        )

    def _withdraw(self, member: _Member) -> None:
        with self._lock:
            if member in self._waiting:
                self._waiting.remove(member)
            elif not member.is_taken:  # it was told to lead, and will not
                self._appoint()

    def _pass_on(self) -> None:
        with self._lock:
            self._appoint()

    def _appoint(self) -> None:
        """Lets the next of those who wait lead; the caller holds the lock."""
        if self._waiting:
            self._waiting.popleft().turn.release()
        else:
            self._is_led = False

    def _lead(self, leader: _Member) -> None:
        """Appends for the leader and all who wait with it."""
        with self._lock:
            members = self._company(leader)
        operation = new_operation()
        try:
            self._append(members, operation)
        except BaseException as error:
            leader.error = error
            for place, member in enumerate(members[1:], start=1):
                if member.outcome is None and member.error is None:
                    if isinstance(error, GrafctlError):
                        member.error = error_of(error, place)
                    else:
                        member.error = _interrupted(operation_of(operation, place))
        finally:
            for member in members[1:]:
                member.turn.release()
            self._pass_on()

    def _company(self, leader: _Member) -> list[_Member]:
        """Takes those of the leader's kin who fit into one entry with it; the caller holds the lock."""
        members, size = [leader], leader.request.size
        leader.is_taken = True
        for member in list(self._waiting):
            size += member.request.size
            if size > self._bytes_max or len(members) == MEMBERS_MAX:
                break
            if member.request.kin == leader.request.kin:
                member.is_taken = True
                members.append(member)
                self._waiting.remove(member)
        return members

    def _append(self, members: list[_Member], operation: bytes) -> None:
        deadline_s = max(0.0, max(member.deadline_s for member in members) - clock.monotonic_s())
        if len(members) == 1:
            members[0].request.prepare()
            members[0].outcome = self.log.append(members[0].request, operation=operation, deadline_s=deadline_s)
            return
        joined = self._join([member.request for member in members])
        joined.prepare()
        outcome = self.log.append(joined, operation=operation, deadline_s=deadline_s)
        for place, (member, answer) in enumerate(zip(members, outcome.answer, strict=True)):
            if isinstance(answer, GrafctlError):
                member.error = answer
            else:
                member.outcome = outcome._replace(answer=answer, operation=operation_of(operation, place))


def _interrupted(operation: bytes) -> Timeout:
    """Returns what to tell a member whose leader was interrupted."""
    return Timeout(
        "Whether it was written is unknown: the thread that wrote for several was interrupted.",
        hint="Run the same command again.",
        outcome="unknown",
        operation=operation_name(0, operation),
    )
