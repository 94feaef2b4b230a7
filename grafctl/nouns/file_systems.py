"""On which file systems the domains of a store are, and on which they must not be.

Promises
- Looking changes nothing, and what cannot be told is not refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from grafctl.errors import Usage

MOUNTINFO = Path("/proc/self/mountinfo")

# LMDB's memory map and locks hold within one kernel: on these another machine may be at the same file.
NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "afpfs", "coda", "ncpfs", "webdav", "davfs"),
        *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "orangefs", "ocfs2", "gfs2"),
        *("sshfs", "s3fs", "gcsfuse", "rclone", "ceph-fuse"),
    )
)
# On these only the host of a virtual machine may be. Whole containers live on them, so nobody is locked out of one.
OF_A_HOST = frozenset(("9p", "virtiofs", "vboxsf", "prl_fs"))


class Mount(NamedTuple):
    """A file system and where it is."""

    point: str
    kind: str


def parse_mountinfo(text: str) -> list[Mount]:
    """Returns the mounts of Linux' /proc/self/mountinfo, in its order."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.partition(" ")[0]
        if len(fields) > 4 and kind:
            point = fields[4].encode(errors="surrogateescape").decode("unicode_escape")  # a space is \040
            found.append(Mount(point.encode("latin-1").decode(errors="surrogateescape"), kind))
    return found


def parse_mount(text: str) -> list[Mount]:
    """Returns the mounts that the command `mount` prints on BSD and macOS: `/dev/disk1 on /path (apfs, local)`."""
    found = []
    for line in text.splitlines():
        place, _, rest = line.partition(" on ")[2].rpartition(" (")
        if place:
            found.append(Mount(place, rest.rstrip(")").partition(",")[0]))
    return found


def mounts() -> list[Mount]:
    """Returns the mounts of this machine, or none where it does not tell them."""
    try:
        return parse_mountinfo(MOUNTINFO.read_text(errors="surrogateescape"))
    except OSError:
        pass
    import subprocess

    try:
        listed = subprocess.run(["mount"], capture_output=True, text=True, errors="surrogateescape", timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_mount(listed.stdout)


def file_system_of(path: Path, known: Iterable[Mount]) -> str | None:
    """Returns the type of the file system that a path is on, or None where that cannot be told."""
    real, best = os.path.realpath(path), Mount("", "")
    for mount in known:
        inside = real == mount.point or real.startswith(mount.point.rstrip("/") + "/")
        if inside and len(mount.point) >= len(best.point):  # of two on one place, the later one hides the other
            best = mount
    return best.kind or None


def is_network(kind: str) -> bool:
    """Returns whether other machines may use a file system of this type at the same time."""
    return kind.removeprefix("fuse.") in NETWORK


def is_shared(kind: str) -> bool:
    """Returns whether another kernel may use a file system of this type: that of another machine, or of the host."""
    return is_network(kind) or kind.removeprefix("fuse.") in OF_A_HOST


def nearest(path: Path) -> Path:
    """Returns the path, or the nearest directory above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def require_local(places: Iterable[tuple[str, Path]]) -> None:
    """Raises `Usage` where a domain would be on a network file system, or no directory can have its path."""
    known = mounts()
    for domain, path in places:
        _require_possible(domain, path)
        kind = file_system_of(path, known)
        if kind is not None and is_network(kind):
            raise Usage(
                f"{path} is on a network file system ({kind}), where two machines can damage {domain}.",
                hint=f"Put it on a local disk: `--domain {domain}=DIR` of init, or `--path DIR` of domain add.",
                domain=domain,
            )


def _require_possible(domain: str, path: Path) -> None:
    """Raises `Usage` where nothing can be at a path: it is too long, or a part of it is a file."""
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        hint = f"Name another directory: `--domain {domain}=DIR` of init, or `--path DIR` of domain add."
        raise Usage(f"{path} cannot hold {domain}: {error.strerror}.", hint=hint, domain=domain) from None
