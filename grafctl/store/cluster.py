"""All failure domains of one store: their environments, opened when first used, and what is known of their being there.

Promises
- An environment is opened at most once in a process, and only for a domain that `store.toml` names.
- A domain that another process added, removed or brought back is seen here by the next `refresh`, which every look at
  a log begins with.
- `is_failed` asks the driver each time: a drill that another process began is seen at once.
- `election_turn` keeps electors of one host from duelling; nothing depends on it for safety.
- `learning_turn` is had by one at a time for each log of a domain, and by nobody once its holder has died.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager

from grafctl import clock
from grafctl.errors import Corrupt, Damaged, Unreachable
from grafctl.store.driver.contract import Batch, Driver, Environment, Identity
from grafctl.store.driver.private import open_file
from grafctl.store.rules import Member
from grafctl.typed import TYPE_CHECKING, Iterator, Mapping, NamedTuple

LOCK_WAIT_S = 2.0
ELECTION_WAIT_S = 1.0


if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    StrPath = str | os.PathLike[str]


@contextmanager
def blaming(domain: str) -> Iterator[None]:
    """Makes `Corrupt` that leaves the block `Damaged` of this domain: the log goes on without it where it can."""
    try:
        yield
    except Corrupt as error:
        raise Damaged(domain, error.message) from error


class Place(NamedTuple):
    """Where a domain's environment is, and which incarnation the store expects there."""

    where: str  # absolute; text, because importing `pathlib` takes as long as a publish
    incarnation: str

    @property
    def path(self) -> Path:
        from pathlib import Path

        return Path(self.where)


class Cluster:
    """The environments of one store by domain."""

    def __init__(self, driver: Driver, store: str, places: Mapping[str, Place], directory: StrPath) -> None:
        self.driver = driver
        self.store = store
        self._directory = os.fspath(directory)
        self.lock_wait_s = LOCK_WAIT_S
        self._places = dict(places)
        self._open: dict[str, Environment] = {}
        self._read = self._stamp()

    @property
    def directory(self) -> Path:
        from pathlib import Path

        return Path(self._directory)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = os.stat(os.path.join(self._directory, "store.toml"))
        except OSError:  # a store in memory, or one that is being made
            return None
        return (found.st_ino, found.st_mtime_ns)

    def refresh(self) -> None:
        """Takes over what another process changed in `store.toml`."""
        stamp = self._stamp()
        if stamp is None or stamp == self._read:
            return
        from grafctl.store import files

        places = files.read(self._directory).places(self._directory)
        for domain in [name for name, place in self._places.items() if places.get(name) != place]:
            self.drop(domain)
        self._places = places
        self._read = stamp

    @property
    def domains(self) -> list[str]:
        """Returns the names of all domains, in the order of `store.toml`."""
        return list(self._places)

    def place(self, domain: str) -> Place:
        """Returns where a domain is; raises `Unreachable` for one that the store does not know."""
        found = self._places.get(domain)
        if found is None:
            raise Unreachable(domain, "the store does not know this domain")
        return found

    def knows(self, domain: str) -> bool:
        return domain in self._places

    def member(self, domain: str) -> Member:
        """Returns a domain with its present incarnation."""
        return (domain, self.place(domain).incarnation)

    def environment(self, domain: str) -> Environment:
        """Returns the environment of a domain; the first use of it may raise `Unreachable` or `Damaged`."""
        found = self._open.get(domain)
        if found is None:
            place = self.place(domain)
            identity = Identity(self.store, domain, place.incarnation)
            found = self._open[domain] = self.driver.open(place.where, identity)
        return found

    def writing(self, domain: str, wait_s: float | None = None) -> AbstractContextManager[Batch]:
        """Opens the write transaction of a domain, as `Environment.write` does; `wait_s` is the store's if none."""
        return self.environment(domain).write(wait_s=self.lock_wait_s if wait_s is None else wait_s)

    def is_failed(self, domain: str) -> bool:
        """Returns whether a domain is out for a drill, or not of this store."""
        place = self._places.get(domain)
        return place is None or self.driver.is_failed(place.where)

    def is_away(self, member: Member) -> bool:
        """Returns whether a member is out for a drill, or not of this store any more."""
        place = self._places.get(member[0])
        return place is None or place.incarnation != member[1] or self.driver.is_failed(place.where)

    def add(self, domain: str, place: Place) -> None:
        """Makes a new domain known to this process."""
        self._places[domain] = place

    def drop(self, domain: str) -> None:
        """Closes a domain and forgets it."""
        found = self._open.pop(domain, None)
        if found is not None:
            found.close()
        self._places.pop(domain, None)

    def close(self) -> None:
        for environment in self._open.values():
            environment.close()
        self._open.clear()

    @contextmanager
    def election_turn(self) -> Iterator[None]:
        """Waits for other electors of this host, at most `ELECTION_WAIT_S`; then goes on all the same."""
        with self._lock("elect.lock", ELECTION_WAIT_S):
            yield

    @contextmanager
    def learning_turn(self, domain: str, log: bytes) -> Iterator[None]:
        """Keeps others from copying this log to this domain; raises `Unreachable` while somebody does."""
        path = self.place(domain).path / f"learn-{log.hex()}.lock"
        if not path.parent.is_dir():  # in memory, or not there, which whoever opens it finds out
            yield
            return
        try:
            handle = open_file(path, os.O_RDWR)
        except OSError as error:
            raise Unreachable(domain, f"{path} cannot be made: {error.strerror}") from error
        try:
            is_mine = _lock_before(handle, 0.0)
            # Its last holder may have removed the file between the two calls; then it is no longer the lock.
            if not is_mine or not path.exists() or not os.path.samestat(os.fstat(handle), os.stat(path)):
                raise Unreachable(domain, "another catch-up is copying to it")
            try:
                yield
            finally:
                try:
                    path.unlink(missing_ok=True)
                except OSError:
                    pass  # what is left is a file that nobody holds, and the next one takes it
        finally:
            os.close(handle)

    @contextmanager
    def _lock(self, name: str, wait_s: float) -> Iterator[bool]:
        if not os.path.isdir(self._directory):  # a store in memory has no directory, and one process only
            yield True
            return
        try:
            handle = open_file(os.path.join(self._directory, name), os.O_RDWR)
        except OSError:  # a disk that is full or sick: nothing depends on the lock for safety
            yield False
            return
        try:
            yield _lock_before(handle, clock.monotonic_s() + wait_s)
        finally:
            os.close(handle)


def _lock_before(handle: int, deadline_s: float) -> bool:
    pause_s = 0.0005
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if clock.monotonic_s() > deadline_s:
                return False
            clock.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.02)
