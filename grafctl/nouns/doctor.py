"""`doctor`: what is wrong, or soon will be, with the machine around a store and with how the store is set up.

Promises
- It reads and repairs nothing, and it does not look at records: that is what `verify` does.
- A finding is worth an operator's attention and names a command. What is as it should be is not mentioned.
- What cannot be read is a finding like the others: no error leaves it.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from grafctl import clock
from grafctl.errors import Damaged, DriverError, GrafctlError
from grafctl.nouns.file_systems import file_system_of, is_shared, mounts, nearest
from grafctl.results import Finding
from grafctl.store import files, keys
from grafctl.store.authority import Placement, stranded_groups
from grafctl.store.cluster import Place
from grafctl.store.log import Log
from grafctl.store.resources.control import log_beginners
from grafctl.store.resources.membership import VOTER
from grafctl.store.resources.queue import queue_row
from grafctl.store.resources.retention import losses_of
from grafctl.store.session import Session
from grafctl.store.spool import SPOOL_NAME

FREE_BYTES_MIN = 1 << 30
DESCRIPTORS_MIN = 256
DESCRIPTORS_OF_A_DOMAIN = 8
LEFTOVER_AGE_MS = 10_000  # younger ones belong to a command that is at work
CLOCK_SLACK_MS = 2_000
EPOCH_OF_GRAFCTL_MS = 1_735_689_600_000  # 2025-01-01: no store is older
WALK_BYTES_MAX = 64 << 20  # a walk holds the writer's lock, for about 0.2 seconds
READER_COMMITS_MAX = 10_000
LMDB_MIN = (3, 0)

MEMORY = frozenset(("tmpfs", "ramfs"))


def doctor(session: Session) -> Iterator[Finding]:
    """Yields what is worth an operator's attention, the machine first."""
    cluster = session.cluster
    places = {domain: cluster.place(domain) for domain in cluster.domains}
    yield from version_findings(sys.version_info[:2], _lmdb_version())
    yield from limit_findings(_limits(), len(places))
    where = str(cluster.directory)
    yield from _guarded(_directory_findings(cluster.directory, places), where)
    yield from _guarded(_disk_findings(cluster.directory, places), where)
    for domain in places:
        yield from _guarded(_domain_findings(session, domain), domain)
    yield from _guarded(_store_findings(session), where)


def _guarded(findings: Iterator[Finding], where: str) -> Iterator[Finding]:
    """Yields findings, and as the last one the error that ended the search for them."""
    try:
        yield from findings
    except GrafctlError as error:
        remedy = "Run `grafctl status` to see which domains are away."
        yield Finding(where, f"it cannot be read: {error.message.rstrip('.')}", remedy)
    except OSError as error:
        remedy = f"Run `ls -ld {_quoted(error.filename or where)}`."
        yield Finding(where, f"it cannot be read: {error.strerror}", remedy)


def _quoted(path: object) -> str:
    from shlex import quote

    return quote(str(path))


# --- the machine


def version_findings(python: tuple[int, ...], lmdb: tuple[int, ...]) -> Iterator[Finding]:
    """Yields versions that grafctl was not made for."""
    if lmdb[:2] < LMDB_MIN:
        found = ".".join(map(str, lmdb)) or "of unknown version"
        yield Finding("py-lmdb", f"it is {found}, and grafctl needs 3.0", "Run `python -m pip install -U 'lmdb>=3.0'`.")
    if python[:2] < (3, 11):
        found = ".".join(map(str, python))
        yield Finding("Python", f"it is {found}, and grafctl needs 3.11", "Install grafctl with a newer Python.")


def _lmdb_version() -> tuple[int, ...]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return tuple(int(part) for part in version("lmdb").split(".")[:3])
    except (PackageNotFoundError, ValueError):
        return ()


def _limits() -> dict[str, int]:
    import resource

    names = {"descriptors": resource.RLIMIT_NOFILE, "file": resource.RLIMIT_FSIZE, "memory": resource.RLIMIT_AS}
    soft = {name: resource.getrlimit(limit)[0] for name, limit in names.items()}
    return {name: value for name, value in soft.items() if value != resource.RLIM_INFINITY}


def limit_findings(limits: Mapping[str, int], domains: int) -> Iterator[Finding]:
    """Yields the limits of this process that a store of so many domains would meet."""
    needed = max(DESCRIPTORS_MIN, 64 + DESCRIPTORS_OF_A_DOMAIN * domains)
    if limits.get("descriptors", needed) < needed:
        problem = f"a process may open {limits['descriptors']} files, and {domains} domains want {needed}"
        yield Finding("this shell", problem, f"Run `ulimit -n {needed}` before grafctl.")
    if "file" in limits:
        problem = f"a file may have {limits['file']} bytes; a longer one is cut off in the middle of a commit"
        yield Finding("this shell", problem, "Run `ulimit -f unlimited` before grafctl.")
    if "memory" in limits:
        problem = (
            f"a process may have {limits['memory']} bytes of address space, and an environment maps as much as it can"
        )
        yield Finding("this shell", problem, "Run `ulimit -v unlimited` before grafctl.")


# --- files and disks


def _disk_findings(directory: Path, places: Mapping[str, Place]) -> Iterator[Finding]:
    known = mounts()
    disks: dict[int, list[str]] = {}
    for domain, place in places.items():
        path = nearest(place.path)
        yield from file_system_findings(domain, path, file_system_of(path, known))
        disks.setdefault(path.stat().st_dev, []).append(domain)
    for domains in disks.values():
        path = nearest(places[domains[0]].path)
        yield from space_findings(path, _free_bytes(path))
        if len(domains) > 1:
            problem = f"{', '.join(domains)} are on one disk, and are lost with it"
            remedy = "Put domains on disks of their own: `grafctl domain add DOMAIN --path DIR`."
            yield Finding(str(directory), problem, remedy)


def _free_bytes(path: Path) -> int:
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize


def file_system_findings(domain: str, path: Path, kind: str | None) -> Iterator[Finding]:
    """Yields what speaks against keeping a domain on a file system of this type."""
    remedy = (
        f"Move it to a local disk: `grafctl domain remove {domain}`, then `grafctl domain add {domain} --path DIR`."
    )
    if kind is not None and is_shared(kind):
        problem = f"{path} is on a network file system ({kind}), where two machines can damage it"
        yield Finding(domain, problem, remedy, domain)
    elif kind in MEMORY:
        yield Finding(domain, f"{path} is in memory ({kind}), and is gone when the machine restarts", remedy, domain)


def space_findings(path: Path, free: int) -> Iterator[Finding]:
    """Yields whether a disk will soon be full."""
    if free < FREE_BYTES_MIN:
        problem = f"its disk has {free >> 20} MiB left; writes end with store_full (23) when it has none"
        yield Finding(str(path), problem, f"Make room; `df -h {_quoted(path)}` shows the disk.")


def _directory_findings(directory: Path, places: Mapping[str, Place]) -> Iterator[Finding]:
    for path in dict.fromkeys((directory, *(place.path for place in places.values()))):
        if path.is_dir():
            yield from _permission_findings(path)
    for path in _leftovers(directory, places):
        if _age_ms(path) > LEFTOVER_AGE_MS:
            yield Finding(str(path), "a command that was killed left it behind", f"Run `rm -r {_quoted(path)}`.")
    for domain, place in places.items():
        for path in sorted(place.path.parent.glob(f".{place.path.name}.fenced_*")):
            remedy = f"Run `grafctl domain repair {domain} --discard` when nobody needs it as evidence."
            yield Finding(str(path), "a repair moved it aside, and nothing uses it", remedy, domain)
    yield from _spool_findings(directory)
    known = {place.path for place in places.values()}
    folder = directory / files.DOMAINS_FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path not in known and not path.name.startswith("."):
            problem = f"no domain of {files.FILE_NAME} is here: nothing reads it"
            yield Finding(str(path), problem, f"Look whose it is, then run `mv {_quoted(path)} ELSEWHERE`.")


def _permission_findings(path: Path) -> Iterator[Finding]:
    if path.stat().st_mode & stat.S_IWOTH:
        yield Finding(str(path), "every user of this machine may write here", f"Run `chmod o-w {_quoted(path)}`.")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            str(path), "you may not write here, so nothing can be published", f"Run `ls -ld {_quoted(path)}`."
        )


def _leftovers(directory: Path, places: Mapping[str, Place]) -> Iterator[Path]:
    yield from directory.glob("*.new")
    for place in places.values():
        for word in ("new", "gone"):
            name = f".{place.path.name}.{word}_"
            yield from (path for path in place.path.parent.glob(".*") if path.name.startswith(name))


def _age_ms(path: Path) -> int:
    try:
        return clock.now_ms() - path.lstat().st_mtime_ns // 1_000_000
    except OSError:
        return 0  # it is gone by now, so it was at work


def _spool_findings(directory: Path) -> Iterator[Finding]:
    for spool in sorted(directory.glob(f"{SPOOL_NAME}*")):  # also those that a process had begun to append
        if (spool.name != SPOOL_NAME and _age_ms(spool) <= LEFTOVER_AGE_MS) or not spool.is_file():
            continue
        count = spool.read_bytes().count(b"\n")
        problem = f"{count} audit records wait here, because the audit log had no quorum"
        remedy = "Run `grafctl status` and bring the domains back: the next refusal or change appends them."
        yield Finding(str(spool), problem, remedy)


# --- the store


def _domain_findings(session: Session, domain: str) -> Iterator[Finding]:
    cluster = session.cluster
    if cluster.is_failed(domain):
        yield Finding(domain, "it is out for a drill", f"Run `grafctl domain restore {domain}`.", domain)
        return
    try:
        with cluster.environment(domain).read():
            found = [*_reader_findings(session, domain), *_reserve_findings(session, domain)]
    except DriverError as error:
        problem = f"its environment is not what {files.FILE_NAME} says: {error.why}"
        lost = "See that its disk is mounted; `grafctl domain show` says what helps."
        remedy = f"Run `grafctl domain repair {domain}`." if isinstance(error, Damaged) else lost
        yield Finding(domain, problem, remedy, domain)
    else:
        yield from found
        yield from _walk_findings(session, domain)


def _reader_findings(session: Session, domain: str) -> Iterator[Finding]:
    """Yields processes whose old snapshot keeps the pages of all later commits from being used again."""
    if session.cluster.driver.name != "lmdb":
        return
    from grafctl.store.driver.lmdb import LmdbEnvironment

    environment = session.cluster.environment(domain)
    assert isinstance(environment, LmdbEnvironment)
    for process, behind in sorted(environment.readers()):
        if behind > READER_COMMITS_MAX:
            problem = f"process {process} still reads what was there {behind} commits ago, so its file only grows"
            yield Finding(domain, problem, f"Run `ps -p {process}`, and end it when it hangs.", domain)


def _reserve_findings(session: Session, domain: str) -> Iterator[Finding]:
    """Yields that the reserve for acks and fences is used, or that there is none; inside a read block."""
    if session.cluster.driver.name != "lmdb":
        return
    from grafctl.store.driver.lmdb import LmdbEnvironment

    environment = session.cluster.environment(domain)
    assert isinstance(environment, LmdbEnvironment)
    left, whole = environment.reserve()
    if left < whole:
        problem = f"its disk was full: {left} of {whole} bytes are left of the reserve for acks and fences"
        yield Finding(domain, problem, "Free some of the disk; the next publish then gives the reserve back.", domain)


def _walk_findings(session: Session, domain: str) -> Iterator[Finding]:
    """Yields what a walk over the pages of a small environment finds wrong; a large one is left to `verify`."""
    if session.cluster.driver.name != "lmdb":
        return
    from grafctl.store.driver.lmdb import structural_findings
    from grafctl.store.driver.lmdb_files import Files

    path = session.cluster.place(domain).path
    if os.stat(Files(str(path)).data).st_size > WALK_BYTES_MAX:
        return
    try:
        with session.cluster.writing(domain):  # so that no page moves
            found = structural_findings(path)
    except (DriverError, OSError):
        return  # it is busy, or was taken out this moment
    for problem in found[:10]:
        yield Finding(domain, f"a page of its environment is wrong: {problem}", "Run `grafctl verify`.", domain)


def _store_findings(session: Session) -> Iterator[Finding]:
    now_ms = clock.now_ms()
    logs: dict[str, Log] = {"the control log": session.control, "the audit log": session.audit}
    names = sorted(session.resources())
    logs |= {name: session.resource(name) for name in log_beginners(session.resources())}
    yield from clock_findings(now_ms, {name: _stamped_ms(log) for name, log in logs.items()})
    yield from _member_findings(session)
    yield from _health_findings(session, now_ms)
    for name in names:
        yield from _guarded(_resource_findings(session, name), name)


def _stamped_ms(log: Log) -> int:
    return max((sight.row.stamped_ms for sight in log.observe().sights.values()), default=0)


def clock_findings(now_ms: int, stamps_ms: Mapping[str, int]) -> Iterator[Finding]:
    """Yields whether the clock of this machine can be right, given the newest stamps of the logs."""
    where, newest_ms = max(stamps_ms.items(), key=lambda item: item[1])
    behind_ms = newest_ms - now_ms
    remedy = "Run `timedatectl` (or `ntpq -p`) and set the clock."
    if behind_ms > CLOCK_SLACK_MS:
        problem = (
            f"it is {behind_ms / 1000:.0f} s behind an entry of {where}; leases and observations last that much longer"
        )
        yield Finding("the clock", problem, remedy)
    elif now_ms < EPOCH_OF_GRAFCTL_MS:
        yield Finding("the clock", "it shows a time before there was a grafctl", remedy)


def _member_findings(session: Session) -> Iterator[Finding]:
    """Yields domains that were added by half: known, and no voter of the store's own logs."""
    with session.control.view() as committed:
        config = committed.lead.config
    for domain in session.cluster.domains:
        if config.voter(domain) is None:
            yield Finding(domain, "it was added by half", f"Run `grafctl domain add {domain}` again.", domain)


def _health_findings(session: Session, now_ms: int) -> Iterator[Finding]:
    for domain, row in session.observations().items():
        if not session.cluster.knows(domain):
            continue
        observe = f"`grafctl health observe {domain} healthy --authority NAME --key-file FILE`"
        if row["status"] != "healthy":
            problem = f"{row['authority']} observed it as {row['status']}, so it serves no polls"
            yield Finding(domain, problem, f"When it is well again, run {observe}.", domain)
        if row["observed_ms"] > now_ms + CLOCK_SLACK_MS:
            problem = f"{row['authority']} observed it in the future; newer observations are refused until then"
            yield Finding(domain, problem, "Run `grafctl health list`, and set the clock of whoever is wrong.", domain)


def _resource_findings(session: Session, name: str) -> Iterator[Finding]:
    with session.state(name) as state:
        placement = Placement.of(queue_row(state, name))
        locator = state.get_json(keys.locator())
        groups = [json.loads(body) for _, body in state.scan(keys.groups())]
        losses = losses_of(state)
    if not any(placement.decide(domain)[0] for domain in session.cluster.domains):
        remedy = f"Run `grafctl placement set {name} --allow DOMAIN` if that is not meant."
        yield Finding(name, "no domain of the store may publish to it", remedy, resource=name)
    holders = [item["domain"] for item in locator["replicas"] if item["role"] == VOTER]
    for loss in losses:
        remedy = (
            f"Give `{name}` a longer retention or quicker readers; `grafctl consumer seek` says that this was seen."
        )
        yield Finding(name, loss, remedy, resource=name)
    for group in stranded_groups(groups, holders):
        remedy = f"Run `grafctl placement set {name} --group {group} --allow DOMAIN`, or shift the group."
        yield Finding(name, f"group {group} may poll nowhere: no replica is in its placement", remedy, resource=name)
