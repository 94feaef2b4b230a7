"""`doctor`: what is wrong with the machine around a store; repairs nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from grafctl import clock
from grafctl.errors import DriverError, GrafctlError
from grafctl.results import Finding
from grafctl.store.replica.replica import Replica
from grafctl.store.session import SPOOL_NAME, Session

FREE_BYTES_MIN = 256 << 20
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"})
CLOCK_SLACK_MS = 5_000


def doctor(session: Session) -> Iterator[Finding]:
    """Yields what deserves an operator's attention: where, what, and what to do."""
    for domain in session.cluster.domains:
        yield from _domain(session, domain)
    yield from _clock(session)
    directory = session.cluster.directory
    if (directory / SPOOL_NAME).exists():
        remedy = "It is appended by the next change or refusal once the audit log has its quorum."
        yield Finding(SPOOL_NAME, "refusals wait outside the audit log", remedy)


def _domain(session: Session, domain: str) -> Iterator[Finding]:
    path = session.cluster.place(domain).path
    if session.cluster.is_failed(domain):
        yield Finding(domain, "the domain is out for a drill", f"Run `grafctl domain restore {domain}`.", domain)
        return
    try:
        with session.cluster.environment(domain).read():
            pass
    except DriverError as error:
        yield Finding(domain, error.why, f"Run `grafctl domain show {domain}`, then `grafctl verify`.", domain)
        return
    kind = file_system_of(path)
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding(domain, f"it lies on {kind}, where LMDB is not safe", "Move it to a local disk.", domain)
    free = shutil.disk_usage(path).free
    if free < FREE_BYTES_MIN:
        yield Finding(domain, f"only {free >> 20} MiB are free on its disk", "Make room on the disk.", domain)


def file_system_of(path: Path) -> str | None:
    """Returns the type of the file system that holds a path, or None where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best, kind = "", None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def _clock(session: Session) -> Iterator[Finding]:
    """Yields a clock that is behind what the store has already been told."""
    try:
        with session.audit.view() as committed:
            stamped_ms = Replica(committed.view, session.audit.id, committed.domain).row.stamped_ms
    except GrafctlError:
        return
    behind_ms = stamped_ms - clock.now_ms()
    if behind_ms > CLOCK_SLACK_MS:
        problem = f"it is {behind_ms / 1000:.0f} s behind the newest stamp of the store"
        yield Finding("the clock of this machine", problem, "Set the clock; leases expire late until then.")
