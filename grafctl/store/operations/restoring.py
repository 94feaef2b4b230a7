"""Fills the empty environments of a new store with what a backup holds, and compares them with it afterwards.

Each replica gets the entries, the state and the head that a copy by LEARN would have, and behind them one START that
names the new incarnations as voters: the old ones may still live, and have no say here.

Promises
- Offsets, ids, groups, cursors, leases, finalised marks, epochs, generations and the chain up to the START are those of
  the backup. A lease that was live stays leased until its deadline by the wall clock.
- A witness keeps no payloads here either; a replica that was catching up is empty and may catch up again.

When it fails: the environments hold a part of the logs; the caller lets nobody open them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from grafctl import clock
from grafctl.errors import Corrupt
from grafctl.store import keys
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Batch
from grafctl.store.driver.kill import point
from grafctl.store.learn import durable_step
from grafctl.store.operations.backup_check import LogCheck, Piece, state_digest
from grafctl.store.operations.backup_file import BackupFile, Manifest
from grafctl.store.records import (
    NO_DIGEST,
    NO_OPERATION,
    START,
    HeadRow,
    config_fields,
    decode_config,
    encode_config,
    encode_head,
    encode_json,
    make_entry,
    parse_json,
    strip_block,
)
from grafctl.store.replica.replica import Replica, sum_of
from grafctl.store.resources.membership import CATCHING_UP, WITNESS
from grafctl.store.rules import Config, Head, Voter

Progress = Callable[[str, int, int], None]


class Replicas(NamedTuple):
    """Where a log goes: the domains that keep payloads, and those that do not."""

    whole: list[str]
    witnesses: list[str]


def replicas_of(check: LogCheck) -> Replicas:
    """Returns the domains of a log that was read to its end."""
    assert check.config is not None
    is_witness = {voter.domain: voter.witness for voter in check.config.voters}
    for replica in (check.locator or {"replicas": []})["replicas"]:
        if replica["state"] != CATCHING_UP:
            is_witness.setdefault(replica["domain"], replica["role"] == WITNESS)
    return Replicas([d for d in is_witness if not is_witness[d]], [d for d in is_witness if is_witness[d]])


def domains_of(manifest: Manifest) -> list[str]:
    """Returns every domain that the restored store must have."""
    named = (domain for check in manifest.logs.values() for part in replicas_of(check) for domain in part)
    located = (
        replica["domain"]
        for check in manifest.logs.values()
        for replica in (check.locator or {"replicas": []})["replicas"]
    )
    return list(dict.fromkeys([*manifest.domains, *named, *located]))


def fill(cluster: Cluster, backup: BackupFile, manifest: Manifest, progress: Progress | None) -> None:
    """Writes every log to its replicas; raises `Corrupt` where the file is not the one of the manifest any more."""
    for piece in backup.pieces():
        check = manifest.logs.get(piece.log.log.hex())
        if check is None:
            raise backup.wrong("it changed while it was read")
        _put(cluster, piece, replicas_of(check))
        if progress:
            progress("entries", piece.log.at, check.at)
    assert backup.manifest is not None
    if backup.manifest.sha256 != manifest.sha256:
        raise backup.wrong("it changed while it was read")
    for check in manifest.logs.values():
        _finish(cluster, check)


def _put(cluster: Cluster, piece: Piece, replicas: Replicas) -> None:
    log = piece.log.log

    def put(batch: Batch, witness: bool) -> bool:
        for index, raw in enumerate(piece.entries, start=piece.at):
            batch.put(keys.entry(log, index), strip_block(raw) if witness else raw)
        for row, raw in piece.rows:
            batch.put(keys.state(log, row), raw)
        return True

    for domain in replicas.whole:
        durable_step(cluster, domain, lambda batch: put(batch, False))
        point("restore.put")
    for domain in replicas.witnesses if piece.entries else ():
        durable_step(cluster, domain, lambda batch: put(batch, True))
        point("restore.put")


def _finish(cluster: Cluster, check: LogCheck) -> None:
    """Gives each replica the START of the new incarnations, and the head that makes it a log."""
    old = check.config
    assert old is not None
    term = (old.term[0] + 1, clock.random_u64())
    voters = tuple(Voter(*cluster.member(voter.domain), voter.witness) for voter in old.voters)
    config = Config(check.at, term, old.primary, voters, old.write_size, old.payload_size)
    meta = encode_json({"do": "start", **config_fields(config)})
    stamped_ms = max(clock.now_ms(), check.stamped_ms)
    raw, chain = make_entry(check.chain, START, term, stamped_ms, NO_OPERATION, meta, b"", NO_DIGEST)
    config = decode_config(parse_json(meta), check.at, term)
    head = Head(term, term, check.floor, check.at + 1, check.at + 1, check.at)

    def put(batch: Batch) -> bool:
        batch.put(keys.entry(check.log, check.at), raw)
        batch.put(keys.config(check.log, check.at), encode_config(config))
        state = sum_of(batch.scan(*keys.states(check.log)))
        batch.put(keys.head(check.log), encode_head(HeadRow(head, stamped_ms, chain, check.floor_chain, *state)))
        return True

    for part in replicas_of(check):
        for domain in part:
            durable_step(cluster, domain, put)
            point("restore.finished")


def compare(cluster: Cluster, manifest: Manifest) -> None:
    """Raises `Corrupt` where a replica does not hold, read back from there, what the manifest says."""
    for log, check in manifest.logs.items():
        replicas, saved = replicas_of(check), check.saved()
        for domain in (*replicas.whole, *replicas.witnesses):
            with cluster.environment(domain).read() as view:
                replica = Replica(view, check.log, domain)
                chain = replica.chain_at(check.at)
                state = state_digest(replica.state.scan((b"", b"\xff" * 8)))
            if chain != check.chain or (domain in replicas.whole and state != saved.state_digest):
                raise Corrupt(f"{domain}: log {log} is not what the backup holds.", domain=domain)
