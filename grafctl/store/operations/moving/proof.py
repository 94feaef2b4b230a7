"""Proof that the copy of a vshard is what its source has, computed on each side from what can be read back there.

The digest is additive: the sum of the SHA-256 of each row (key, version, value), modulo 2^256 (AdHash, Bellare and
Micciancio 1997), so it does not depend on the order in which rows are read. It is no defence against somebody who
writes rows in order to deceive it; it finds what a fault left out, added or changed.

Promises
- The target is read in each of its domains that keep payloads, from that domain's own bytes.
- What is replayed after the proof is read back key by key, in each of these domains, and compared with the source's
  entries.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from grafctl import clock
from grafctl.errors import NoQuorum, ProofRequired
from grafctl.store import vshard_keys
from grafctl.store.checked import is_newest
from grafctl.store.committed import is_whole
from grafctl.store.keys import U64
from grafctl.store.log import Log
from grafctl.store.moving_rules import WAL_CATCHUP
from grafctl.store.operations.moving.replaying import Collected, collect, covering, replay
from grafctl.store.operations.moving.work import Work
from grafctl.store.replica.state import State, state_at
from grafctl.store.resources.table import Counts, counts_of
from grafctl.store.table_block import Write

_MODULUS = 1 << 256
_BEHIND_S = 1.0  # how long a domain may be behind what others write to the same log


class Digest(NamedTuple):
    """What is there: rows, and the sum of their hashes."""

    records: int
    total: int

    @property
    def text(self) -> str:
        return f"adhash-sha256:{self.total:064x}"


def digest_of(state: State, number: int) -> Digest:
    """Returns the digest of a vshard's rows; raises `Corrupt` for a row that fails its checksum."""
    records = total = 0
    cut, size, number_of = len(vshard_keys.table_row(number, b"")), U64.pack, int.from_bytes
    for row, body in state.scan(vshard_keys.table_rows(number)):  # its body is the version (8) and the value
        records += 1
        total += number_of(sha256(size(len(row) - cut) + row[cut:] + body).digest(), "big")
    return Digest(records, total % _MODULUS)


def prove(work: Work) -> None:
    """Brings the target to one entry of the source and compares all rows there; raises `ProofRequired`."""
    number = work.place.vshard
    work.tell("progress", state=WAL_CATCHUP, waits_for="the proof: all rows are read back in each domain.")
    with covering(work.source, work.applied) as committed:
        through = committed.upto
        source = digest_of(committed.state, number)
    while work.applied < through:
        replay(work, collect(work.source, number, work.applied, through))
    domains = each_domain(work.target, lambda state: digest_of(state, number))
    for domain, target in domains.items():
        if target != source:
            raise mismatch(work, domain, source.text, target.text, source.records, target.records)
    work.proof = {"through": through, "records": source.records, "digest": source.text, "domains": sorted(domains)}
    work.tell("proof", **work.proof)


def read_back(work: Work, found: Collected, counts: Counts | None = None) -> None:
    """Compares what was replayed with what each domain of the target has now, and with `counts` what it counts of the
    vshard as well, so that a target without a quorum is found also where nothing was left to replay; raises
    `ProofRequired`."""
    began_s = clock.monotonic_s()
    newest: dict[bytes, Write] = {write.key: write for write in found.writes}
    row = vshard_keys.vshard(work.place.vshard)

    def wrong(state: State) -> tuple[list[bytes], Counts | None]:
        missing = []
        for key, write in newest.items():
            body = state.get(vshard_keys.table_row(work.place.vshard, key))
            expected = None if write.value is None else U64.pack(write.version) + write.value
            if body != expected:
                missing.append(key)
        there = state.get_json(row) if counts is not None else None  # nothing, where it was cancelled meanwhile
        return missing, None if there is None else counts_of(there)

    if newest or counts is not None:
        for domain, (keys_found, there) in each_domain(work.target, wrong).items():
            if there != counts:
                raise mismatch(work, domain, str(counts), str(there))
            if keys_found:
                raise mismatch(work, domain, f"{len(newest)} records", f"{len(keys_found)} of them otherwise")
    work.read_back_us = int((clock.monotonic_s() - began_s) * 1e6)


def each_domain(log: Log, look: Callable[[State], Any]) -> dict[str, Any]:
    """Returns what `look` finds in each domain that holds the log's newest committed state; raises `NoQuorum` where
    they are no write quorum, and stay none for a while: others may be writing to the same log."""
    found: dict[str, Any] = {}
    least: int | None = None  # entries that each domain must show
    until_s: float | None = None
    is_settled = False
    while True:
        with log.view() as committed:
            lead, upto = committed.lead, committed.upto
            if is_settled or is_newest(committed):
                least = upto if least is None else least
                there = [d for d in lead.domains() if not lead.is_witness(d) and not log.cluster.is_failed(d)]
                for domain in there:
                    sight = committed.found.sights.get(domain)
                    if domain not in found and sight is not None and is_whole(sight, lead) and upto >= least:
                        state = state_at(committed.views[domain], log.id, domain, sight.head.tail, upto)
                        found[domain] = look(log.scope(state))
        if least is None:  # domains are away, and this view may lag behind what was appended here
            log.settle()
            is_settled = True
            continue
        need = min(config.payload_size for config in lead.force())
        if len(found) >= need:
            return found
        until_s = until_s or clock.monotonic_s() + (_BEHIND_S if len(there) >= need else 0.0)
        if clock.monotonic_s() >= until_s:
            raise NoQuorum(
                f"The copy can be read back in {len(found)} domains, and {need} must hold it.",
                hint="Run `grafctl status` to see which domains are away.",
                outcome="not_written",
            )
        clock.sleep(0.001)


def mismatch(work: Work, domain: str, source: str, target: str, *records: int) -> ProofRequired:
    """Returns the error of a copy that is not what its source has."""
    counts = dict(zip(("source_records", "target_records"), records, strict=False))
    return ProofRequired(
        f"The copy of {work.what} in {domain} is not what its source has.",
        hint=f"Run `grafctl vshard cancel {work.place.table} {work.place.vshard}`; the source is as it was.",
        resource=work.place.table,
        vshard=work.place.vshard,
        domain=domain,
        source=source,
        target=target,
        **counts,
    )
