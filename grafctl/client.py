"""The public Python API: `import grafctl; with grafctl.open(path) as store: store.publish(...)`.

Commands, workers and other people's programs all come in here. Work (publish, poll, ack, nack) is on the store
itself; each noun that an operator manages is an attribute: `store.queues`, `store.consumers`, `store.locator` and so
on.

Promises
- Every method returns a class of `grafctl.results` or raises one of `grafctl.errors`; nothing else leaves.
- When `publish` returns, the record is durable in every domain that `acked_by` names, and those are a quorum.
"""

from __future__ import annotations

import os

from grafctl import clock
from grafctl.client_nouns import Nouns
from grafctl.errors import Usage
from grafctl.store import files
from grafctl.store.blocks import Outgoing
from grafctl.store.cluster import Cluster
from grafctl.store.log import DEADLINE_S
from grafctl.store.operations.publishing import publish, stream
from grafctl.store.resources.queue import Publish
from grafctl.store.session import Session
from grafctl.typed import TYPE_CHECKING, Any, Iterable, Iterator, Sequence

if TYPE_CHECKING:
    from types import TracebackType

    from grafctl.making import apply, create, drift, keygen, plan, restore
    from grafctl.results import Ack, Backup, Change, Delivery, Drift, Finding, Finished, Plan, Proof, Shown, Verdict
    from grafctl.store.operations.proving import Progress
    from grafctl.store.operations.publishing import Batches

VISIBILITY_MS = 30_000


def open(path: str | os.PathLike[str], *, driver: str | None = None) -> Store:
    """Opens a store; raises `NotFound` where there is none, and `InvalidConfig` for one this version cannot read."""
    directory = files.absolute(path)
    file = files.read(directory)
    if driver is not None and driver != file.driver:
        raise Usage(f"The store in {directory} was made with the driver {file.driver}, not {driver}.")
    return Store(Session(Cluster(driver_named(file.driver), file.identity, file.places(directory), directory)))


def driver_named(name: str) -> Any:
    """Returns the driver that `store.toml` names; raises `Usage`."""
    if name == "lmdb":
        from grafctl.store.driver.lmdb import LmdbDriver

        return LmdbDriver()
    raise Usage(f"This grafctl has no driver {name[:40]!r}; it knows lmdb.")


def __getattr__(name: str) -> Any:
    # Lazy, because work on a store that is there must not pay for making one.
    if name in ("apply", "create", "drift", "keygen", "plan", "restore"):
        from grafctl import making

        return getattr(making, name)
    raise AttributeError(f"module 'grafctl.client' has no attribute {name!r}")


class Store(Nouns):
    """An open store. Close it, or use it as a context manager."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives back every environment."""
        self.session.close()

    # --- work

    def publish(
        self,
        resource: str,
        payload: bytes | str,
        *,
        domain: str,
        id: str | None = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        epoch: int | None = None,
        schema: str | None = None,
        operation: str | None = None,
        timeout_s: float = DEADLINE_S,
        dry_run: bool = False,
    ) -> Ack:
        """Publishes one record and returns when it is durable on its quorum.

        The same id with the same payload returns the first offset; with another payload it raises
        `IdempotencyConflict`. `operation` is the key that a `NoQuorum` or `Timeout` with an unknown outcome gave: it
        makes trying again safe.
        """
        body = payload.encode() if isinstance(payload, str) else payload
        is_plain = id is None and key is None and headers is None and type(body) is bytes
        return self.publish_batch(
            resource,
            [body] if is_plain else [Outgoing(body, id, key, headers)],
            domain=domain,
            epoch=epoch,
            schema=schema,
            operation=operation,
            timeout_s=timeout_s,
            dry_run=dry_run,
        )

    def publish_batch(
        self,
        resource: str,
        records: Sequence[Outgoing] | Sequence[bytes],
        *,
        domain: str,
        epoch: int | None = None,
        schema: str | None = None,
        atomic: bool = False,
        operation: str | None = None,
        timeout_s: float = DEADLINE_S,
        dry_run: bool = False,
    ) -> Ack:
        """Publishes records as one atomic entry. Ids that conflict are left out and reported, unless `atomic`."""
        request = Publish(resource, records, domain, epoch, schema, atomic, self.session.cluster.knows(domain))
        return publish(self.session, request, operation, timeout_s, dry_run=dry_run)

    def publish_stream(
        self,
        resource: str,
        batches: Batches,
        *,
        domain: str,
        epoch: int | None = None,
        schema: str | None = None,
        atomic: bool = False,
        timeout_s: float = DEADLINE_S,
        in_flight: int = 1,
    ) -> Iterator[Ack]:
        """Publishes batches as they come and yields one `Ack` for each, in order.

        With `in_flight` above 1 so many batches are on their way at once, which is faster, and an `Ack` may wait for
        the batches after it; an empty batch asks for all that are due. With `atomic` everything is read first and
        published as one entry, or nothing is.
        """
        known = self.session.cluster.knows(domain)
        first = Publish(resource, [], domain, epoch, schema, atomic, known)
        return stream(self.session, first, batches, timeout_s, in_flight)

    def poll(
        self,
        resource: str,
        group: str,
        *,
        domain: str,
        max: int = 100,
        visibility_ms: int = VISIBILITY_MS,
        epoch: int | None = None,
        wait_s: float = 0.0,
        finish: Iterable[int] = (),
        lease: int | None = None,
    ) -> Delivery:
        """Leases up to `max` records to the group and returns them as read from the caller's own domain.

        Waits up to `wait_s` for the first. A record that is not acked within `visibility_ms` is given out again.
        `finish` are offsets of earlier polls to be acked before that, under `lease` where one is named: one durable
        commit for both. What `ack` would refuse, this refuses, and then nothing is leased; where the poll is refused,
        nothing is finished.
        """
        from grafctl.store.operations.polling import poll

        until = clock.monotonic_s() + wait_s
        pause_s = 0.02
        asked = (self.session, resource, group, domain, max, visibility_ms, epoch)
        delivery = poll(*asked, finish=list(finish), lease=lease)
        finished = delivery.finished
        while not delivery.records and (left_s := until - clock.monotonic_s()) > 0:
            clock.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, 0.25)
            delivery = poll(*asked, finished=finished)
        return delivery

    def peek(self, resource: str, *, domain: str, offset: int | None = None, max: int = 100) -> Shown:
        """Returns records from the caller's own domain without leasing them; from the oldest kept, or from `offset`."""
        from grafctl.store.operations.polling import peek

        return peek(self.session, resource, domain, offset, max)

    def ack(
        self,
        resource: str,
        group: str,
        offsets: Iterable[int],
        *,
        domain: str,
        lease: int | None = None,
        epoch: int | None = None,
        dry_run: bool = False,
    ) -> Finished:
        """Finalises records for the group's whole lineage; those that were final before are counted in `already`."""
        from grafctl.store.operations.polling import ack

        return ack(self.session, resource, group, list(offsets), domain, lease, epoch, dry_run=dry_run)

    def nack(
        self,
        resource: str,
        group: str,
        offsets: Iterable[int],
        *,
        domain: str,
        lease: int | None = None,
        delay_ms: int = 0,
        counted: bool = True,
        epoch: int | None = None,
        dry_run: bool = False,
    ) -> Finished:
        """Gives leased records back: delivered again after `delay_ms`, or dead letters when tried too often.
        With `counted=False` it was no try: nobody had begun with them."""
        from grafctl.store.operations.polling import nack

        at = (self.session, resource, group, list(offsets), domain, lease, delay_ms, epoch)
        return nack(*at, counted=counted, dry_run=dry_run)

    def renew(
        self, resource: str, group: str, lease: int, *, domain: str, visibility_ms: int = VISIBILITY_MS
    ) -> Change:
        """Holds a lease for another `visibility_ms` from now; raises `Fenced` when it is over."""
        from grafctl.store.operations.polling import renew

        return renew(self.session, resource, group, lease, domain, visibility_ms)

    # --- operations

    def fence(self, resource: str, *, epoch: int, group: str | None = None, dry_run: bool = False) -> Change:
        """Refuses every epoch below this one from now on; raises `Fenced` when it would go back."""
        from grafctl.nouns.placements import fence

        return fence(self.session, resource, epoch, group, dry_run=dry_run)

    def catch_up(
        self,
        resource: str,
        *,
        domain: str,
        group: str | None = None,
        allow_empty: bool = False,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> Proof:
        """Copies a resource to a domain of its locator, proves the copy by its content, and makes it a voter."""
        from grafctl.store.operations.catch_up import catch_up

        return catch_up(self.session, resource, domain, group, allow_empty, progress, dry_run=dry_run)

    def can(self, op: str, resource: str, *, domain: str, group: str | None = None) -> Verdict:
        """Returns whether an operation would be allowed, and by which line of which policy."""
        from grafctl.nouns.placements import can

        return can(self.session, op, resource, domain, group)

    def status(self) -> Shown:
        """Returns the state of domains, resources, replicas and groups; an unreachable domain is part of the answer."""
        from grafctl.nouns.status import status

        return status(self.session)

    def verify(self) -> Iterator[Finding]:
        """Yields every inconsistency of the store; repairs nothing."""
        from grafctl.store.operations.verify import verify

        return verify(self.session)

    def backup(
        self, target: str | os.PathLike[str], *, progress: Progress | None = None, dry_run: bool = False
    ) -> Backup:
        """Saves every log up to a committed index to a new file, or to one of its own name in a directory."""
        from pathlib import Path

        from grafctl.store.operations.backup import back_up

        return back_up(self.session, Path(target), progress, dry_run=dry_run)

    def doctor(self) -> Iterator[Finding]:
        """Yields what is wrong with the machine around the store: disks, file systems, limits, clock, stale readers."""
        from grafctl.nouns.doctor import doctor

        return doctor(self.session)

    def apply(self, file: str | os.PathLike[str], *, dry_run: bool = False) -> Change:
        """Creates what a TOML file declares and is not there yet; raises `InvalidConfig` with all its problems.

        The file may be a plan that `plan` saved: it is done once, and refused where anything moved since.
        """
        from pathlib import Path

        from grafctl.nouns.declared import apply

        return apply(self, Path(file), dry_run=dry_run)

    def plan(self, file: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None) -> Plan:
        """Returns what `apply` of a file would make and what differs from it, and saves that to `out`."""
        from pathlib import Path

        from grafctl.nouns.declared import plan

        return plan(self, Path(file), Path(out) if out is not None else None)

    def drift(self, file: str | os.PathLike[str]) -> Drift:
        """Returns every difference between what a file declares and this store."""
        from pathlib import Path

        from grafctl.nouns.declared import drift

        return drift(self, Path(file))

    def names(self, kind: str, resource: str | None = None) -> list[str]:
        """Returns names for a shell to complete; an error is an empty list."""
        from grafctl.nouns.status import names

        return names(self.session, kind, resource)


__all__ = ["Outgoing", "Store", "apply", "create", "drift", "keygen", "open", "plan", "restore"]
