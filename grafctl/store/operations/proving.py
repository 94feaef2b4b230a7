"""Content proofs: digests of what two domains can read back, computed on each side from that side's own bytes.

Promises
- A digest covers every retained record, every group, what is finalised, and every idempotency record; of a table every
  key with its version and value, every vshard, and every migration. Both directions count: a row that only one side has
  changes that side's digest.
- Nothing that was copied is believed: the digest of every block is that of bytes that were read from its own side, for
  this proof or, after they were committed there, by the copy that the proof follows; rows are compared by content.
- Both sides are read at one index of the log; the primary is held still only while the two snapshots are opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import Any, NamedTuple

from grafctl.errors import Corrupt, DriverError, ProofRequired
from grafctl.store import blocks, keys, vshard_keys
from grafctl.store.ahead import Ahead
from grafctl.store.learn import Checked
from grafctl.store.log import Log
from grafctl.store.reading import BlockRef, block_entry, block_refs
from grafctl.store.records import check_entry, decode_beginning, digest, parse_json
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.scope import FIRST, scoped
from grafctl.store.replica.state import State
from grafctl.store.replicate import Moved, copy
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.several import block_change
from grafctl.store.resources.table import KIND, PART

LINES_AHEAD = 256
COVERS = ("records", "groups", "finalised", "idempotency")
OF_TABLES = ("keys", "vshards", "migrations")

Progress = Callable[[str, int, int], None]


class Side(NamedTuple):
    """One domain's copy in an open snapshot."""

    domain: str
    replica: Replica
    number: int = FIRST  # of the resource whose content is compared

    @property
    def state(self) -> State:
        return scoped(self.replica.state, self.number)


class Content(NamedTuple):
    """What one side read back."""

    first: int
    through: int
    records: int
    digests: dict[str, str]  # by what they cover

    def digest(self) -> str:
        """Returns one digest over all parts."""
        whole = hashlib.sha256()
        for part, found in self.digests.items():
            whole.update(f"{part}={found};".encode())
        return f"sha256:{whole.hexdigest()}"


@contextmanager
def both_sides(log: Log, source: str, target: str) -> Iterator[tuple[Side, Side]]:
    """Opens snapshots of two domains at the same index.

    The primary's lock is held, and nothing appended, from the last copy until both snapshots are open: milliseconds,
    whatever the size. Raises `Moved` or `NeedsLearning` where the log has moved meanwhile.
    """
    lead = log.settle()
    with ExitStack() as stack:
        with log.cluster.writing(lead.primary) as batch:
            tail = Replica(batch, log.id, lead.primary).row.head.tail
            for domain in (source, target):
                if domain != lead.primary:
                    copy(log.cluster, log.id, log.apply, lead, domain, tail)
            sides = [Side(domain, _open(log, stack, domain)) for domain in (source, target)]
        if len({side.replica.row.head.tail for side in sides}) != 1:
            raise Moved(lead.term)
        yield sides[0], sides[1]


def _open(log: Log, stack: ExitStack, domain: str) -> Replica:
    view = stack.enter_context(log.cluster.environment(domain).read())
    return Replica(view, log.id, domain)


class _Block(NamedTuple):
    """What one block adds to the digest of the records."""

    ref: BlockRef
    digest: bytes


def _blocks(side: Side, resource: str, checked: Sequence[Checked]) -> Generator[_Block | Exception, None, None]:
    """Yields every retained block of a side, and at last what is wrong with it, if anything is."""
    try:
        queue = queue_row(side.state, resource)
        at, stop = queue["first"], queue["next"]
        for ref in block_refs(side.state, at, stop):
            if ref.first > at:
                break
            is_checked = any(item.domain == side.domain and ref.at in item for item in checked)
            yield _Block(ref, _known_digest(side, ref) if is_checked else _digest(side, ref))
            at = ref.first + ref.records
        if at != stop:
            raise Corrupt(f"{side.domain}: offset {at} of {resource} is missing.", domain=side.domain, offset=at)
    except (Corrupt, DriverError) as error:
        yield error


def _digest(side: Side, ref: BlockRef) -> bytes:
    """Returns the digest of a block, computed from what is read now."""
    raw = side.replica.view.get(keys.entry(side.replica.log, ref.at))
    what = f"{side.domain}: entry {ref.at} of log {side.replica.log.hex()}"
    if raw is None:
        raise Corrupt(f"{what} is missing.", domain=side.domain)
    entry, data = check_entry(raw, what)
    block = data[ref.span]
    found = entry.block_digest if ref.start is None else digest(block)
    return _matching(side, ref, found, blocks.count(block, what))


def _known_digest(side: Side, ref: BlockRef) -> bytes:
    """Returns the digest of a block whose bytes have been compared with it."""
    raw = side.replica.beginning(ref.at)
    entry = decode_beginning(raw, f"{side.domain}: entry {ref.at} of log {side.replica.log.hex()}")
    if ref.start is None:
        return _matching(side, ref, entry.block_digest, entry.request.get("count"))
    change = block_change(entry, ref.start) or {"digest": "", "count": None}
    return _matching(side, ref, bytes.fromhex(change["digest"]), change["count"])


def _matching(side: Side, ref: BlockRef, found: bytes, records: Any) -> bytes:
    if records != ref.records:
        raise Corrupt(
            f"{side.domain}: entry {ref.at} does not hold the block of offset {ref.first}.", domain=side.domain
        )
    return found


class _Records:
    """The digest of one side's records, block by block."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self._whole = hashlib.sha256()

    def add(self, block: _Block | Exception | None) -> None:
        if isinstance(block, Exception):
            self.error = block
        elif block is not None:
            self._whole.update(_block_line(*block))
            self.count += block.ref.records

    def content(self, side: Side, resource: str) -> Content:
        """Returns what the side holds, with everything that is not records."""
        queue = queue_row(side.state, resource)
        digests = {"records": self._whole.hexdigest()}
        digests["groups"] = _rows(side, keys.groups(), keys.all_leases(), keys.all_dead_letters())
        digests["finalised"] = _rows(side, keys.lineages())
        digests["idempotency"] = _rows(side, keys.ids(), keys.idem_keys())
        return Content(queue["first"], queue["next"] - 1, self.count, digests)


def _block_line(ref: BlockRef, block_digest: bytes) -> bytes:
    return ref.first.to_bytes(8, "big") + ref.records.to_bytes(8, "big") + block_digest


def _rows(side: Side, *spans: tuple[bytes, bytes]) -> str:
    whole = hashlib.sha256()
    for span in spans:
        for row, body in side.state.scan(span):
            whole.update(len(row).to_bytes(4, "big") + row + len(body).to_bytes(4, "big") + body)
    return whole.hexdigest()


def covers_of(kind: str) -> tuple[str, ...]:
    """Returns what a proof of a resource of this kind covers."""
    return OF_TABLES if kind in (KIND, PART) else COVERS


def _table_content(side: Side) -> Content:
    """Returns what a side holds of a table: `records` keys, after so many writes in all its vshards."""
    records = writes = 0
    for _, body in side.state.scan(vshard_keys.vshards()):
        writes += parse_json(body)["seq"]
    whole = hashlib.sha256()
    for row, body in side.state.scan(vshard_keys.all_table_rows()):
        whole.update(len(row).to_bytes(4, "big") + row + len(body).to_bytes(4, "big") + body)
        records += 1
    vshards, moves = vshard_keys.vshards(), (vshard_keys.migrations(), vshard_keys.ways_back())
    found = (whole.hexdigest(), _rows(side, vshards), _rows(side, *moves))
    return Content(0, writes - 1, records, dict(zip(OF_TABLES, found, strict=True)))


def _compare_tables(table: str, source: Side, target: Side, progress: Progress | None) -> tuple[Content, Content]:
    content = _table_content(source)
    if progress:
        progress("verify", 0, content.records)
    try:
        read_back = _table_content(target)
    except (Corrupt, DriverError) as error:
        raise _differ(table, source, target, str(error)) from error
    different = [part for part, found in content.digests.items() if found != read_back.digests[part]]
    if different:
        raise _differ(table, source, target, f"{', '.join(different)} differ")
    return content, read_back


def compare(
    resource: str, source: Side, target: Side, progress: Progress | None = None, checked: Sequence[Checked] = ()
) -> tuple[Content, Content]:
    """Returns both contents, read in parallel; raises `ProofRequired` with the first difference.

    Blocks of entries that are `checked` on a side are not read again there.
    """
    through = queue_row(source.state, resource)
    if through.get("kind") in (KIND, PART):
        return _compare_tables(resource, source, target, progress)
    ours, theirs = _Records(), _Records()
    with (
        Ahead(_blocks(source, resource, checked), LINES_AHEAD) as mine,
        Ahead(_blocks(target, resource, checked), LINES_AHEAD) as others,
    ):
        for one, other in zip_longest(mine, others):
            ours.add(one)
            theirs.add(other)
            if ours.error or theirs.error:
                break
            if progress:
                progress("verify", theirs.count, through["next"] - through["first"])
    if ours.error:
        raise ours.error
    if theirs.error:
        raise _differ(resource, source, target, str(theirs.error)) from theirs.error
    content = ours.content(source, resource)
    try:
        read_back = theirs.content(target, resource)
    except (Corrupt, DriverError) as error:
        raise _differ(resource, source, target, str(error)) from error
    different = [part for part in COVERS if content.digests[part] != read_back.digests[part]]
    if different or content[:3] != read_back[:3]:
        raise _differ(resource, source, target, f"{', '.join(different) or 'the range of offsets'} differ")
    return content, read_back


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
    queue = queue_row(source.state, resource)
    theirs: dict[int, BlockRef] = {}
    try:
        theirs.update((ref.first, ref) for ref in block_refs(target.state, queue["first"], queue["next"]))
    except Corrupt:
        pass  # a broken row: what was read before it is compared, and the first that was not is the answer
    for ref in block_refs(source.state, queue["first"], queue["next"]):
        other = theirs.pop(ref.first, None)
        if other is None or other.records != ref.records:
            return ref.first
        try:
            if digest(block_entry(target.replica, other).block) != digest(block_entry(source.replica, ref).block):
                return ref.first
        except Corrupt:
            return ref.first
    return min(theirs, default=None)
