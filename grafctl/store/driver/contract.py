"""What a driver must guarantee: one failure domain, one ordered set of bytes, one durable commit at a time.

A driver keeps one *environment* for each failure domain: an ordered mapping from key (1 to 511 bytes) to value (0
bytes to 64 MiB). The methods are grouped by the guarantee they need, because that is what an author of a driver has
to know.

Must be atomic and durable
    `Environment.write` is one transaction. When its block ends without an exception, everything put and deleted in it
    is on stable storage, all of it, before the call returns. When the block raises, or the process dies at any instant
    before the return, either all of it or none of it is there, never a part.

Must be exclusive, with a deadline
    At most one `write` block is open in an environment, over all processes. A second one waits at most `wait_s` and
    then raises `Unreachable`; a holder that died is no longer a holder.

Must be a snapshot
    `Environment.read` sees the last commit before it began and nothing after it, however long it lasts. It never
    waits for a writer, and a writer never waits for it. Bytes that were returned stay valid after the block: the
    driver copies.

Must say the truth about failure
    `Unreachable`: nothing was written. `Full`: nothing was written, and reads and deletes still work.
    `OutcomeUnknown`: it may be there or not; the driver has thrown its handle away, and the next call opens anew.
    `Damaged`: what is there cannot be trusted. No other exception leaves a driver, but for a programmer's error
    (`AssertionError`).

Must be recognisable
    Each environment carries its `Identity`. One that belongs to another store, another domain or another format, or
    that went back to an older state than this host has seen, is refused before a byte of it is believed.
"""

from __future__ import annotations

from grafctl.typed import TYPE_CHECKING, Iterator, NamedTuple, Protocol

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager

    StrPath = str | os.PathLike[str]

KEY_BYTES_MAX = 511
VALUE_BYTES_MAX = 64 << 20


class Identity(NamedTuple):
    """Who an environment is; written at creation, compared at every opening."""

    store: str  # st_…, the same in every domain of a store
    domain: str  # aws/us-east-1/us-east-1a
    incarnation: str  # inc_…, new whenever the domain is made anew: a wiped voter is not the old voter
    format: int = 3


class View(Protocol):
    """A consistent state of one environment."""

    def get(self, key: bytes, size: int | None = None) -> bytes | None:
        """Returns the value of `key`, or its first `size` bytes only, or None where there is none."""
        ...

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yields (key, value) for start <= key < stop in byte order, or backwards; the batch's own writes included.

        The environment must not be changed through the same batch while the iterator is in use.
        """
        ...


class Batch(View, Protocol):
    """A `View` that can be changed; lives and ends in the thread that opened it."""

    def put(self, key: bytes, value: bytes) -> None:
        """Sets `key`; asserts the limits on sizes. Where there is no room, it or the end of the block raises `Full`."""
        ...

    def delete(self, key: bytes) -> bool:
        """Removes `key` and returns whether it was there."""
        ...

    def use_reserve(self) -> None:
        """Lets this block go on where there is no room for others: it frees something, or protects it.

        A driver keeps room for such blocks that no other block may take, where it can.
        """
        ...


class Environment(Protocol):
    """One failure domain's bytes; safe to use from several threads of the process that opened it."""

    @property
    def identity(self) -> Identity: ...

    def read(self) -> AbstractContextManager[View]:
        """Opens a snapshot; raises `Unreachable` or `Damaged`."""
        ...

    def write(self, *, wait_s: float) -> AbstractContextManager[Batch]:
        """Opens the one write transaction, commits durably at the end of the block, rolls back when the block raises.

        SIGINT and SIGTERM that arrive in the main thread between the begin and the outcome are delivered after the
        outcome.
        """
        ...

    def close(self) -> None:
        """Gives back every handle; a closed environment raises `Unreachable` from then on. Twice is allowed."""
        ...


class Driver(Protocol):
    """How environments come to be. `name` stands in `store.toml`; opening with another driver is refused."""

    name: str

    def create(self, path: StrPath, identity: Identity) -> None:
        """Makes an empty environment that is durable, whole or absent; raises `Unreachable` where one is already."""
        ...

    def open(self, path: StrPath, identity: Identity) -> Environment:
        """Returns the environment without touching the disk yet; the first use raises `Unreachable` or `Damaged`.

        `identity.incarnation` may be empty: then any incarnation is accepted and `identity` gives the one found.
        """
        ...

    def fail(self, path: StrPath) -> None:
        """Makes the domain unavailable to all processes at once, until `restore`; for drills."""
        ...

    def restore(self, path: StrPath) -> None:
        """Ends `fail`."""
        ...

    def is_failed(self, path: StrPath) -> bool:
        """Returns whether `fail` is in force."""
        ...

    def identity_of(self, path: StrPath) -> Identity | None:
        """Returns whose environment that is, also where it is failed or damaged; None where that cannot be told.

        It changes nothing and waits for nobody.
        """
        ...

    def damage(self, path: StrPath) -> str | None:
        """Returns what was found wrong in the environment: since then it is out, until `absolve` or made anew."""
        ...

    def check(self, path: StrPath, identity: Identity) -> None:
        """Reads all of the environment, however long that takes; raises `Damaged` or `Unreachable`."""
        ...

    def absolve(self, path: StrPath, identity: Identity) -> None:
        """Takes back what `damage` says, where `check` finds nothing wrong; raises what `check` does."""
        ...

    def destroy(self, path: StrPath) -> None:
        """Removes the environment and everything in it."""
        ...

    def set_aside(self, path: StrPath, label: str) -> str | None:
        """Moves what is at `path` to where nothing opens it, and returns where; None where nothing is there.

        From the return on nobody can write it or begin to read it, not even who has it open; a write that was under
        way is not acknowledged.
        """
        ...

    def remains(self, path: StrPath) -> list[str]:
        """Returns what is left of this domain in places that nothing opens: set aside, half made or half removed."""
        ...

    def discard(self, path: StrPath) -> None:
        """Deletes what `remains` names."""
        ...
