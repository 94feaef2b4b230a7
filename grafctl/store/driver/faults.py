"""A driver around a driver: at named steps a plan may make something go wrong, and a scheduler may take over.

Promises
- With a plan that answers None it changes nothing: it passes the suite of the driver that it wraps.
- A fault means what it means in `contract.py`: `UNREACHABLE` and `FULL` write nothing, `OUTCOME_UNKNOWN` raises with
  the commit applied or not, as the fault says. `CRASH` raises `SimulatedCrash`, and what was not committed is gone.
- `plan(domain, step, count)` is asked at each step, `count` from 1 in each (domain, step): a seed decides a whole run.

Steps
    read.begin, write.begin       before the block begins; nothing is held yet
    get, scan                     before each value that is returned, the batch's own reads included
    write.commit.before           the block ended well; a fault here rolls it back (but `OUTCOME_UNKNOWN(applied=True)`)
    write.commit.after            the commit is durable; only the answer can still be lost

When it fails
    A fault at a step where it can not happen (`FULL` while reading, say) is an `AssertionError`: the plan is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from types import TracebackType
from typing import Self

from grafctl.errors import Damaged, DriverError, Full, OutcomeUnknown, Unreachable
from grafctl.store.driver.contract import Batch, Driver, Environment, Identity, View

READ_BEGIN = "read.begin"
WRITE_BEGIN = "write.begin"
COMMIT_BEFORE = "write.commit.before"
COMMIT_AFTER = "write.commit.after"
GET = "get"
SCAN = "scan"


class Kind(Enum):
    """What goes wrong."""

    UNREACHABLE = "unreachable"
    FULL = "full"
    OUTCOME_UNKNOWN = "outcome_unknown"
    DAMAGED = "damaged"
    FLIP = "flip"
    CRASH = "crash"
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `applied` belongs to OUTCOME_UNKNOWN, `bit` to FLIP, `delay` to DELAY."""

    kind: Kind
    applied: bool = False
    bit: int = 0
    delay: Callable[[], None] | None = None


Plan = Callable[[str, str, int], Fault | None]
Schedule = Callable[[str, str], None]

_WRITE_STEPS = frozenset({WRITE_BEGIN, COMMIT_BEFORE, COMMIT_AFTER})
_COMMIT_STEPS = frozenset({COMMIT_BEFORE, COMMIT_AFTER})
_ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.UNREACHABLE: frozenset({READ_BEGIN, WRITE_BEGIN, COMMIT_BEFORE, GET, SCAN}),
    Kind.FULL: frozenset({WRITE_BEGIN, COMMIT_BEFORE}),
    Kind.OUTCOME_UNKNOWN: _COMMIT_STEPS,
    Kind.DAMAGED: frozenset({READ_BEGIN, WRITE_BEGIN, GET, SCAN}),
    Kind.FLIP: frozenset({GET, SCAN}),
    Kind.CRASH: _WRITE_STEPS | {READ_BEGIN, GET, SCAN},
    Kind.DELAY: _WRITE_STEPS | {READ_BEGIN, GET, SCAN},
}


class SimulatedCrash(BaseException):
    """Stands for the death of the process; not an `Exception`, so that nothing but the test catches it."""


class _Faults:
    """Counts the steps and asks the plan."""

    def __init__(self, plan: Plan, schedule: Schedule | None) -> None:
        self._plan = plan
        self._schedule = schedule
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = Lock()

    def at(self, domain: str, step: str) -> Fault | None:
        """Raises what the plan wants at this step; returns the fault where it is for the caller to carry out."""
        if self._schedule is not None and step not in (GET, SCAN):
            self._schedule(domain, step)
        with self._lock:
            count = self._counts[domain, step] = self._counts.get((domain, step), 0) + 1
        fault = self._plan(domain, step, count)
        if fault is None:
            return None
        assert step in _ALLOWED[fault.kind], f"{fault.kind} cannot happen at {step}"
        return self._carry_out(fault, domain, f"{step} {count}")

    def _carry_out(self, fault: Fault, domain: str, where: str) -> Fault | None:
        error = _error(fault.kind, domain, f"injected at {where}")
        if error is not None:
            raise error
        if fault.kind is Kind.CRASH:
            raise SimulatedCrash(f"{domain}: at {where}")
        if fault.kind is Kind.DELAY:
            assert fault.delay is not None, "a delay without a callback"
            fault.delay()
            return None
        return fault


def _error(kind: Kind, domain: str, why: str) -> DriverError | None:
    if kind is Kind.UNREACHABLE:
        return Unreachable(domain, why)
    if kind is Kind.FULL:
        return Full(domain, why)
    return Damaged(domain, why) if kind is Kind.DAMAGED else None


def flip(value: bytes, bit: int) -> bytes:
    """Returns `value` with one bit changed, counted modulo its length; an empty value stays empty."""
    if not value:
        return value
    place = bit % (8 * len(value))
    changed = bytearray(value)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


class _Block:
    """What a read and a write block share: the names, and reading through the plan."""

    def __init__(self, faults: _Faults, domain: str) -> None:
        self._faults = faults
        self._domain = domain
        self._inner_view: View | None = None

    def _view(self) -> View:
        assert self._inner_view is not None, "the block has not begun"
        return self._inner_view

    def get(self, key: bytes, size: int | None = None) -> bytes | None:
        fault = self._faults.at(self._domain, GET)
        value = self._view().get(key, size)
        return flip(value, fault.bit) if fault and value else value

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._view().scan(start, stop, reverse=reverse):
            fault = self._faults.at(self._domain, SCAN)
            yield key, flip(value, fault.bit) if fault else value


class _Reading(_Block):
    """A read block."""

    def __init__(self, faults: _Faults, domain: str, inner: AbstractContextManager[View]) -> None:
        super().__init__(faults, domain)
        self._inner = inner

    def __enter__(self) -> Self:
        self._faults.at(self._domain, READ_BEGIN)
        self._inner_view = self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)


class _Writing(_Block):
    """A write block, and the two steps around its commit."""

    def __init__(self, faults: _Faults, domain: str, inner: AbstractContextManager[Batch]) -> None:
        super().__init__(faults, domain)
        self._inner = inner

    def __enter__(self) -> Self:
        self._faults.at(self._domain, WRITE_BEGIN)
        self._inner_batch = self._inner_view = self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._inner.__exit__(kind, error, trace)
            return
        is_lost = self._before_commit()
        self._inner.__exit__(None, None, None)
        fault = self._faults.at(self._domain, COMMIT_AFTER)
        if is_lost or fault is not None:
            assert fault is None or fault.applied, "after the commit it is applied"
            raise OutcomeUnknown(self._domain, "injected: the answer to the commit was lost")

    def _before_commit(self) -> bool:
        """Returns whether the outcome shall be unknown though the commit is made; rolls back for all other faults."""
        try:
            fault = self._faults.at(self._domain, COMMIT_BEFORE)
            if fault is not None and not fault.applied:
                raise OutcomeUnknown(self._domain, "injected: the commit was lost")
        except BaseException as error:
            self._inner.__exit__(type(error), error, error.__traceback__)
            raise
        return fault is not None

    def put(self, key: bytes, value: bytes) -> None:
        self._inner_batch.put(key, value)

    def use_reserve(self) -> None:
        self._inner_batch.use_reserve()

    def delete(self, key: bytes) -> bool:
        return self._inner_batch.delete(key)


class FaultEnvironment:
    """An environment whose every block goes through the plan."""

    def __init__(self, faults: _Faults, inner: Environment, domain: str) -> None:
        self._faults = faults
        self._inner = inner
        self._domain = domain

    @property
    def identity(self) -> Identity:
        return self._inner.identity

    def read(self) -> _Reading:
        return _Reading(self._faults, self._domain, self._inner.read())

    def write(self, *, wait_s: float) -> _Writing:
        return _Writing(self._faults, self._domain, self._inner.write(wait_s=wait_s))

    def close(self) -> None:
        self._inner.close()


class FaultDriver:
    """Wraps `inner`; `schedule(domain, step)` is called at each begin, commit and end, for a simulator to yield in."""

    def __init__(self, inner: Driver, plan: Plan, *, schedule: Schedule | None = None) -> None:
        self.name = inner.name  # what stands on disk is the inner driver's
        self.inner = inner
        self._faults = _Faults(plan, schedule)

    def create(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.inner.create(path, identity)

    def open(self, path: str | os.PathLike[str], identity: Identity) -> FaultEnvironment:
        return FaultEnvironment(self._faults, self.inner.open(path, identity), identity.domain)

    def fail(self, path: str | os.PathLike[str]) -> None:
        self.inner.fail(path)

    def restore(self, path: str | os.PathLike[str]) -> None:
        self.inner.restore(path)

    def is_failed(self, path: str | os.PathLike[str]) -> bool:
        return self.inner.is_failed(path)

    def identity_of(self, path: str | os.PathLike[str]) -> Identity | None:
        return self.inner.identity_of(path)

    def damage(self, path: str | os.PathLike[str]) -> str | None:
        return self.inner.damage(path)

    def check(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.inner.check(path, identity)

    def absolve(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.inner.absolve(path, identity)

    def destroy(self, path: str | os.PathLike[str]) -> None:
        self.inner.destroy(path)

    def set_aside(self, path: str | os.PathLike[str], label: str) -> str | None:
        return self.inner.set_aside(path, label)

    def remains(self, path: str | os.PathLike[str]) -> list[str]:
        return self.inner.remains(path)

    def discard(self, path: str | os.PathLike[str]) -> None:
        self.inner.discard(path)
