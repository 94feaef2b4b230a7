"""Backup: saves of every log one committed prefix and the state at its end, while others go on writing.

Steps: bring to rest what a voter that is away leaves undecided; open one snapshot of every domain; read from them, each
log from one domain that keeps its payloads; write a temporary file, flush it, give it its name.

Promises
- Every record that was acknowledged before the backup began is in it. Where too few voters answer to say so, there is
  `NoQuorum` and no file.
- All snapshots are opened before anything is read. Where writers leave one moment free, they are the store of that one
  moment (`one_moment`); otherwise each log is a prefix of its own, a few milliseconds apart from the others.
- What a damaged domain holds is noticed on the way, and the log is read from another one.
- The file is whole or absent, is never written over another, and only its owner may read it.

When it fails: nothing but a temporary file is left, which the next backup of the store to this place writes anew.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from grafctl import __version__, clock
from grafctl.errors import Busy, Corrupt, DriverError, GenerationConflict, NoQuorum, Usage
from grafctl.results import Backup
from grafctl.store import files, keys
from grafctl.store.committed import Committed
from grafctl.store.driver.kill import point
from grafctl.store.driver.private import sync_path
from grafctl.store.learn import checked_chunks, state_chunks
from grafctl.store.log import Log
from grafctl.store.operations.backup_check import LogCheck
from grafctl.store.operations.backup_file import BackupWriter
from grafctl.store.records import NO_CHAIN
from grafctl.store.replica.replica import Replica
from grafctl.store.replica.state import State
from grafctl.store.resources.control import log_beginners, rows
from grafctl.store.session import Session
from grafctl.store.snapshots import Snapshots

MOMENT_TRIES = 50  # each takes as long as opening the snapshots twice
LOOKS = 8
SUFFIX = ".grafctl-backup"
NAMES = {keys.CONTROL_LOG: "control", keys.AUDIT_LOG: "audit"}

Progress = Callable[[str, int, int], None]


class Source:
    """One look at all logs of a store, from snapshots that stay open."""

    def __init__(self, session: Session, snapshots: Snapshots, *, one_moment: bool) -> None:
        self.session, self.snapshots, self.one_moment = session, snapshots, one_moment
        self.logs: dict[bytes, Log] = {}
        self.records: dict[bytes, dict[str, Any]] = {}
        self.names = dict(NAMES)

    def committed(self, log: bytes, prefer: str | None = None) -> Committed | None:
        return self.snapshots.committed(log, self.session.cluster.domains, prefer)

    def unsettled(self, settled: Mapping[bytes, int]) -> list[Log]:
        """Returns the logs of which the snapshots do not tell all that was acknowledged; finds what logs there are.

        They do where every voter is among them and the newest term is committed, or where they reach what was committed
        when the log was settled: it is not enough that it was, since other voters may have answered then.
        """
        found = [self.session.control, self.session.audit]
        control = self.committed(keys.CONTROL_LOG)
        records = self.session.resources() if control is None else rows(control.state, keys.resources())
        for name, record in sorted(log_beginners(records).items()):
            log = Log(self.session.cluster, bytes.fromhex(record["log"]), list(record["domains"]), found[0].apply)
            self.names[log.id], self.records[log.id] = name, record
            found.append(log)
        self.logs = {log.id: log for log in found}
        return [log for log in found if not self._tells_all(log, settled.get(log.id))]

    def _tells_all(self, log: Log, settled: int | None) -> bool:
        committed = self.committed(log.id)
        if committed is None:
            if settled is None:
                return False
            with log.view() as found:
                return found.upto >= settled
        if settled is not None and committed.upto >= settled:
            return True
        if committed.upto <= committed.lead.config.at:
            return False  # a term has begun and its START is not committed: what was before may be counted nowhere
        there = {sight.member for sight in committed.found.sights.values()}
        return all(voter.member in there for config in committed.lead.force() for voter in config.voters)

    def copies(self, log: Log) -> Iterator[Committed]:
        """Yields the committed state of a log at one index, in one domain after the other."""
        first = self.committed(log.id)
        if first is None:  # somebody's copy is doubtful, and a look at the log alone leaves it out
            with log.view() as committed:
                yield committed
            return
        yield first
        for domain in first.found.sights:
            if domain != first.domain:
                other = self.committed(log.id, domain)
                if other is not None and other.domain == domain and other.upto == first.upto:
                    yield other


@contextmanager
def look(session: Session) -> Iterator[Source]:
    """Yields a source that has every record that was acknowledged before; raises `NoQuorum` where nobody can know."""
    settled: dict[bytes, int] = {}  # log -> how many entries were committed when it was settled
    moments = 0
    for _ in range(LOOKS + MOMENT_TRIES):
        session.cluster.refresh()
        with ExitStack() as stack:
            snapshots = stack.enter_context(Snapshots(session.cluster))
            is_moment = snapshots.are_of_one_moment()
            source = Source(session, snapshots, one_moment=is_moment)
            unsettled = source.unsettled(settled)
            moments += not is_moment
            if not unsettled and (is_moment or moments > MOMENT_TRIES):
                yield source
                return
        for log in unsettled:
            if log.id in source.records:
                session.open_log(source.names[log.id], source.records[log.id])  # which begins it where its creator died
            settled[log.id] = log.settle().settle()
    raise Busy("The store changes too fast to be looked at as a whole.", hint="Run the same command again.")


def back_up(session: Session, target: Path, progress: Progress | None, *, dry_run: bool) -> Backup:
    """Saves a store to a file, or to a file of its own name in a directory."""
    taken_ms = clock.now_ms()
    folder, name = _place(session, target, taken_ms)
    with look(session) as source:
        away = {domain: error.why for domain, error in source.snapshots.errors.items()}
        actions = [f"save {source.names[log]}" for log in source.logs] + [f"write {folder / name}"]
        common: dict[str, Any] = {"file": str(folder / name), "store": session.cluster.store, "taken_ms": taken_ms}
        common |= {"domains": session.cluster.domains, "away": away or None}
        if dry_run:
            return Backup(False, **common, dry_run=True, actions=actions)
        about = {"store": session.cluster.store, "taken_ms": taken_ms, "grafctl": __version__}
        with _whole_or_absent(folder, name, session.cluster.store) as file:
            writer = BackupWriter(file, about)
            logs = [_save_log(writer, source, log, progress) for log in source.logs.values()]
            named = [domain for item in logs for domain in item["replicas"]]
            domains = list(dict.fromkeys([*session.cluster.domains, *named]))
            body = {"domains": domains, "one_moment": source.one_moment, "away": sorted(away), "logs": logs}
            whole = writer.finish(body)
            size = file.tell()
        shown = [shown_log(item) for item in logs]
        return Backup(True, **common, bytes=size, sha256=whole, one_moment=source.one_moment, logs=shown)


def shown_log(line: dict[str, Any]) -> dict[str, Any]:
    """Returns what people and scripts see of a log's line of the manifest."""
    words = ("name", "domain", "log", "floor", "upto", "rows", "bytes", "chain", "state_digest")
    return {word: line[word] for word in words}


def _place(session: Session, target: Path, taken_ms: int) -> tuple[Path, str]:
    """Returns the directory and the name of the file; raises `Usage`, or `GenerationConflict` where one is there."""
    from datetime import UTC, datetime

    folder, name = target.parent.absolute(), target.name
    if target.is_dir():
        moment = datetime.fromtimestamp(taken_ms / 1000, UTC)
        folder, name = target.absolute(), f"{session.cluster.store}-{moment:%Y%m%dT%H%M%S}{taken_ms % 1000:03}Z{SUFFIX}"
    if not folder.is_dir() or not name:
        raise Usage(f"There is no directory {folder}.", hint="Make it first, or name another place.")
    if (folder / name).exists() or (folder / name).is_symlink():
        raise _already(folder / name)
    return folder, name


def _already(path: Path) -> GenerationConflict:
    return GenerationConflict(
        f"{path} is there already, and a backup never writes over a file.",
        hint="Name a directory, and each backup gets a name of its own: `grafctl backup DIR`.",
        file=str(path),
    )


@contextmanager
def _whole_or_absent(folder: Path, name: str, store: str) -> Iterator[BinaryIO]:
    """Yields a temporary file that gets its name when the block has ended well and all of it is on the disk."""
    temporary = folder / f".{store}.partial"
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as file:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"Another backup of this store is being written to {folder}.", hint="Wait for it.") from None
            try:
                os.fchmod(handle, 0o600)
                file.truncate(0)
                yield file
                file.flush()
                os.fsync(handle)
                point("backup.written")
                _name(temporary, folder / name)
                point("backup.named")
            except BaseException as error:
                if not isinstance(error, Exception):
                    tell(error, folder / name)
                raise
            finally:
                temporary.unlink(missing_ok=True)
        sync_path(folder)
    except OSError as error:
        raise files.unwritable(folder / name, error) from None


def tell(error: BaseException, path: Path) -> None:
    """Says in a signal's exception what became of the file."""
    is_there = path.exists()
    error.outcome = "done" if is_there else "not_written"  # type: ignore[attr-defined]
    error.add_note(f"{path} is there, whole." if is_there else "No backup was written.")


def _name(temporary: Path, final: Path) -> None:
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise _already(final) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if final.exists():  # a file system without links has no way to say this in one step
            raise _already(final) from None
        temporary.rename(final)


def _save_log(writer: BackupWriter, source: Source, log: Log, progress: Progress | None) -> dict[str, Any]:
    """Writes one log, from the first domain in which all of it is right; returns its line of the manifest."""
    mark, wrong = writer.mark(), None
    for committed in source.copies(log):
        try:
            check = _copy_log(writer, log.id, committed, progress)
            if check.config is None or check.at != committed.upto:
                raise Corrupt(f"{committed.domain}: log {log.id.hex()} has no committed configuration.")
            about = {"name": source.names[log.id], "domain": committed.domain}
            domains = [voter.domain for voter in check.config.voters] + _located(committed.state)
            return {**check.saved()._asdict(), **about, "replicas": sorted(set(domains))}
        except (Corrupt, DriverError) as error:
            wrong = error
            writer.rewind(mark)
    if isinstance(wrong, DriverError):
        raise Corrupt(f"No domain holds all of {source.names[log.id]}: {wrong.domain}: {wrong.why}.") from wrong
    raise wrong or NoQuorum("No replica that keeps payloads answers.", outcome="not_written")


def _located(state: State) -> list[str]:
    locator = state.get_json(keys.locator()) or {"replicas": []}
    return [item["domain"] for item in locator["replicas"]]


def _copy_log(writer: BackupWriter, log: bytes, committed: Committed, progress: Progress | None) -> LogCheck:
    reader = Replica(committed.view, log, committed.domain)
    floor = reader.row.head.floor
    check = writer.begin(log, floor, reader.chain_at(floor) or NO_CHAIN)
    for chunk in checked_chunks(reader, floor, committed.upto):
        writer.entries(check, chunk.entries)
        point("backup.entries")
        if progress:
            progress("entries", check.at, committed.upto)
    cut = len(keys.state(log, b""))
    for rows_ in state_chunks(log, committed.state):
        writer.rows(check, [(key[cut:], raw) for key, raw in rows_])
        point("backup.rows")
    return check
