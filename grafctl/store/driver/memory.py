"""The driver in memory: for tests, for a trial run, and as the plainest reading of the contract.

Promises
- Everything of `contract.py` but durability beyond the process. One `MemoryDriver` is one world: environments are keyed
  by path in it, and two drivers share nothing.
- A snapshot is a value: a sorted list of keys and a dict that are never changed again once a commit has published them.

When it fails
    A block that raises leaves the former snapshot in force; publishing is one assignment. Nothing survives the process.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, insort
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from grafctl.errors import Damaged, Unreachable
from grafctl.store.driver import signals
from grafctl.store.driver.contract import KEY_BYTES_MAX, VALUE_BYTES_MAX, Identity
from grafctl.store.driver.outer_lock import OuterLock


class _Snapshot:
    """A state: the keys in order, and their values."""

    __slots__ = ("keys", "values")

    def __init__(self, keys: list[bytes], values: dict[bytes, bytes]) -> None:
        self.keys = keys
        self.values = values


class _Domain:
    """What exists of a domain, whoever has it open."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.lock = OuterLock(identity.domain, None)
        self.snapshot = _Snapshot([], {})
        self.is_failed = False


class _Reading:
    """A read block and its `View`."""

    def __init__(self, environment: MemoryEnvironment) -> None:
        self._environment = environment
        self._snapshot: _Snapshot | None = None

    def __enter__(self) -> Self:
        self._snapshot = self._environment.require_domain().snapshot
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._snapshot = None

    def _state(self) -> _Snapshot:
        assert self._snapshot is not None, "the block has ended"
        return self._snapshot

    def get(self, key: bytes, size: int | None = None) -> bytes | None:
        assert 0 < len(key) <= KEY_BYTES_MAX, key
        value = self._state().values.get(key)
        return value if value is None or size is None else value[:size]

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        state = self._state()
        places = range(bisect_left(state.keys, start), bisect_left(state.keys, stop))
        for place in reversed(places) if reverse else places:
            key = state.keys[place]
            yield key, state.values[key]


class _Writing(_Reading):
    """A write block and its `Batch`: a copy of the snapshot, published at the end."""

    def __init__(self, environment: MemoryEnvironment, wait_s: float) -> None:
        super().__init__(environment)
        self._wait_s = wait_s
        self._domain: _Domain | None = None

    def __enter__(self) -> Self:
        domain = self._environment.require_domain()
        domain.lock.take(self._wait_s)
        self._is_holding = False
        try:
            self._is_holding = signals.hold()
            self._domain = self._environment.require_domain()  # it may have failed or gone while we waited
            if self._domain is not domain:
                raise Unreachable(domain.identity.domain, "it was made anew while a write waited")
            old = domain.snapshot
            self._snapshot = _Snapshot(list(old.keys), dict(old.values))
        except BaseException:
            self._give_back(domain)
            raise
        self._thread = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert threading.get_ident() == self._thread, "a write block ends in the thread that opened it"
        assert self._domain is not None
        if kind is None:
            self._domain.snapshot = self._state()
        self._snapshot = None
        self._give_back(self._domain)

    def _give_back(self, domain: _Domain) -> None:
        try:
            domain.lock.give()
        finally:
            if self._is_holding:
                signals.release()

    def put(self, key: bytes, value: bytes) -> None:
        assert 0 < len(key) <= KEY_BYTES_MAX, key
        assert len(value) <= VALUE_BYTES_MAX, len(value)
        state = self._state()
        if key not in state.values:
            insort(state.keys, key)
        state.values[bytes(key)] = bytes(value)

    def use_reserve(self) -> None:
        """Memory has no room of its own to keep."""

    def delete(self, key: bytes) -> bool:
        assert 0 < len(key) <= KEY_BYTES_MAX, key
        state = self._state()
        if state.values.pop(key, None) is None:
            return False
        del state.keys[bisect_left(state.keys, key)]
        return True


class MemoryEnvironment:
    """One domain in memory, found at its first use."""

    def __init__(self, driver: MemoryDriver, path: str | os.PathLike[str], identity: Identity) -> None:
        self._driver = driver
        self._path = path
        self._identity = identity
        self._is_closed = False

    @property
    def identity(self) -> Identity:
        if not self._identity.incarnation:
            self.require_domain()
        return self._identity

    def read(self) -> _Reading:
        return _Reading(self)

    def write(self, *, wait_s: float) -> _Writing:
        return _Writing(self, wait_s)

    def close(self) -> None:
        self._is_closed = True

    def require_domain(self) -> _Domain:
        """Returns the domain; raises `Unreachable` where closed, absent, failed or foreign, `Damaged` where wiped."""
        name = self._identity.domain
        if self._is_closed:
            raise Unreachable(name, "closed")
        domain = self._driver.domains.get(_key(self._path))
        if domain is None:
            raise Unreachable(name, f"missing: nothing was made at {self._path}")
        if domain.is_failed:
            raise Unreachable(name, "failed by a drill, until it is restored")
        self._check_identity(domain.identity)
        return domain

    def _check_identity(self, found: Identity) -> None:
        mine = self._identity
        if (found.store, found.domain, found.format) != (mine.store, mine.domain, mine.format):
            raise Unreachable(mine.domain, f"foreign: it belongs to {found.domain} of {found.store}")
        if mine.incarnation and found.incarnation != mine.incarnation:
            raise Damaged(mine.domain, f"it is incarnation {found.incarnation}, and {mine.incarnation} is registered")
        self._identity = found


class MemoryDriver:
    """A world of environments in memory."""

    name = "memory"

    def __init__(self) -> None:
        self.domains: dict[str, _Domain] = {}

    def copy(self) -> MemoryDriver:
        """Returns another world with the same environments, in which nobody holds a lock."""
        other = MemoryDriver()
        for key, domain in self.domains.items():
            made = other.domains[key] = _Domain(domain.identity)
            made.snapshot, made.is_failed = domain.snapshot, domain.is_failed
        return other

    def create(self, path: str | os.PathLike[str], identity: Identity) -> None:
        if self.domains.setdefault(_key(path), made := _Domain(identity)) is not made:
            raise Unreachable(identity.domain, f"there is an environment already at {path}")

    def open(self, path: str | os.PathLike[str], identity: Identity) -> MemoryEnvironment:
        return MemoryEnvironment(self, path, identity)

    def fail(self, path: str | os.PathLike[str]) -> None:
        self._require(path).is_failed = True

    def restore(self, path: str | os.PathLike[str]) -> None:
        domain = self.domains.get(_key(path))
        if domain is not None:
            domain.is_failed = False

    def is_failed(self, path: str | os.PathLike[str]) -> bool:
        domain = self.domains.get(_key(path))
        return domain is not None and domain.is_failed

    def identity_of(self, path: str | os.PathLike[str]) -> Identity | None:
        domain = self.domains.get(_key(path))
        return None if domain is None else domain.identity

    def damage(self, path: str | os.PathLike[str]) -> str | None:
        return None

    def check(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.open(path, identity).require_domain()

    def absolve(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.check(path, identity)

    def destroy(self, path: str | os.PathLike[str]) -> None:
        self.domains.pop(_key(path), None)

    def set_aside(self, path: str | os.PathLike[str], label: str) -> str | None:
        domain = self.domains.pop(_key(path), None)
        if domain is None:
            return None
        target = f"{_key(path)}.fenced_{label}"
        self.domains[target] = domain
        return target

    def remains(self, path: str | os.PathLike[str]) -> list[str]:
        return sorted(name for name in self.domains if name.startswith(f"{_key(path)}.fenced_"))

    def discard(self, path: str | os.PathLike[str]) -> None:
        for name in self.remains(path):
            del self.domains[name]

    def _require(self, path: str | os.PathLike[str]) -> _Domain:
        domain = self.domains.get(_key(path))
        if domain is None:
            raise Unreachable(str(path), f"missing: nothing was made at {path}")
        return domain


def _key(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)
