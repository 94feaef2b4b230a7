"""Content proofs: digests of what two domains can read back, computed on each side from that side's own bytes.

Promises
- A digest covers every retained record, every group, what is finalised, and every idempotency record, in both
  directions: a row that only one side has changes that side's digest.
- Nothing that was copied is believed: blocks are hashed as they are read, and rows are compared by content.
- Both sides are read at one index of the log; the primary is held still only while the two snapshots are opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from grafctl.errors import Corrupt, DriverError, NoQuorum, ProofRequired
from grafctl.store import keys
from grafctl.store.log import Log
from grafctl.store.reading import BlockRef, block_entry, block_refs
from grafctl.store.records import digest
from grafctl.store.replica.replica import Replica
from grafctl.store.replicate import copy
from grafctl.store.resources.queue import queue_row

COVERS = ("records", "groups", "finalised", "idempotency")

Progress = Callable[[str, int, int], None]


class Side(NamedTuple):
    """One domain's copy in an open snapshot."""

    domain: str
    replica: Replica


class Content(NamedTuple):
    """What one side read back."""

    first: int
    through: int
    records: int
    digests: dict[str, str]  # by what they cover

    def digest(self) -> str:
        """Returns one digest over all parts."""
        whole = hashlib.sha256()
        for part in COVERS:
            whole.update(f"{part}={self.digests[part]};".encode())
        return f"sha256:{whole.hexdigest()}"


@contextmanager
def both_sides(log: Log, source: str, target: str) -> Iterator[tuple[Side, Side]]:
    """Opens snapshots of two domains at the same index.

    The primary's lock is held, and nothing appended, from the last copy until both snapshots are open: milliseconds,
    whatever the size.
    """
    lead = log.settle()
    with ExitStack() as stack:
        with log.cluster.environment(lead.primary).write(wait_s=log.cluster.lock_wait_s) as batch:
            tail = Replica(batch, log.id, lead.primary).row.head.tail
            for domain in (source, target):
                if domain != lead.primary:
                    copy(log.cluster, log.id, log.apply, lead, domain, tail)
            sides = [Side(domain, _open(log, stack, domain)) for domain in (source, target)]
        if len({side.replica.row.head.tail for side in sides}) != 1:
            raise NoQuorum(
                "The log moved while the snapshots were opened.",
                hint="Run the same command again.",
                outcome="not_written",
            )
        yield sides[0], sides[1]


def _open(log: Log, stack: ExitStack, domain: str) -> Replica:
    view = stack.enter_context(log.cluster.environment(domain).read())
    return Replica(view, log.id, domain)


def read_content(side: Side, resource: str, progress: Progress | None = None) -> Content:
    """Returns what a side holds; raises `Corrupt` where a byte of it is wrong."""
    state = side.replica.state
    queue = queue_row(state, resource)
    first, stop = queue["first"], queue["next"]
    records = hashlib.sha256()
    counted = 0
    at = first
    for ref in block_refs(state, first, stop):
        if ref.first > at:
            raise Corrupt(f"{side.domain}: offset {at} of {resource} is missing.", domain=side.domain, offset=at)
        entry = block_entry(side.replica, ref)
        records.update(_block_line(ref, digest(entry.block)))
        counted += ref.records
        at = ref.first + ref.records
        if progress:
            progress("verify", counted, stop - first)
    if at != stop:
        raise Corrupt(f"{side.domain}: offset {at} of {resource} is missing.", domain=side.domain, offset=at)
    digests = {"records": records.hexdigest()}
    digests["groups"] = _rows(side, keys.groups(), keys.all_leases(), keys.all_dead_letters())
    digests["finalised"] = _rows(side, keys.lineages())
    digests["idempotency"] = _rows(side, keys.ids())
    return Content(first, stop - 1, counted, digests)


def _block_line(ref: BlockRef, block_digest: bytes) -> bytes:
    return ref.first.to_bytes(8, "big") + ref.records.to_bytes(8, "big") + block_digest


def _rows(side: Side, *spans: tuple[bytes, bytes]) -> str:
    whole = hashlib.sha256()
    for span in spans:
        for row, body in side.replica.state.scan(span):
            whole.update(len(row).to_bytes(4, "big") + row + len(body).to_bytes(4, "big") + body)
    return whole.hexdigest()


def compare(resource: str, source: Side, target: Side, progress: Progress | None = None) -> tuple[Content, Content]:
    """Returns both contents; raises `ProofRequired` with the first difference."""
    ours = read_content(source, resource)
    try:
        theirs = read_content(target, resource, progress)
    except (Corrupt, DriverError) as error:
        raise _differ(resource, source, target, str(error)) from error
    different = [part for part in COVERS if ours.digests[part] != theirs.digests[part]]
    if different or ours[:3] != theirs[:3]:
        raise _differ(resource, source, target, f"{', '.join(different) or 'the range of offsets'} differ")
    return ours, theirs


def _differ(resource: str, source: Side, target: Side, why: str) -> ProofRequired:
    offset = first_difference(resource, source, target)
    where = f" The first differing offset is {offset}." if offset is not None else ""
    return ProofRequired(
        f"The copy of {resource} in {target.domain} is not the one in {source.domain}: {why}.{where}",
        hint="Run `grafctl verify`; a damaged domain comes back by removing its replica and adding it anew.",
        resource=resource,
        domain=target.domain,
        match=False,
        first_difference=offset,
    )


def first_difference(resource: str, source: Side, target: Side) -> int | None:
    """Returns the lowest offset whose block differs or cannot be read in the target, or None where all blocks agree."""
    queue = queue_row(source.replica.state, resource)
    theirs: dict[int, BlockRef] = {}
    try:
        theirs.update((ref.first, ref) for ref in block_refs(target.replica.state, queue["first"], queue["next"]))
    except Corrupt:
        pass  # a broken row: what was read before it is compared, and the first that was not is the answer
    for ref in block_refs(source.replica.state, queue["first"], queue["next"]):
        other = theirs.pop(ref.first, None)
        if other is None or other.records != ref.records:
            return ref.first
        try:
            if digest(block_entry(target.replica, other).block) != digest(block_entry(source.replica, ref).block):
                return ref.first
        except Corrupt:
            return ref.first
    return min(theirs, default=None)
