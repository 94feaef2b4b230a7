"""What the public API does where no store is open yet: make one, declare one, restore one, make a key.

Promises
- `client` hands these names out; here they are, so that work on a store does not pay for importing them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from grafctl.client import driver_named
from grafctl.names import check_name
from grafctl.results import Change, Drift, Plan, Shown
from grafctl.store.operations.proving import Progress


def create(path: str | os.PathLike[str], domains: Mapping[str, Path | None], *, dry_run: bool = False) -> Change:
    """Makes a store with these failure domains; the same call again finishes what was begun."""
    from grafctl.nouns.creating import create_store

    return create_store(Path(path).absolute(), domains, driver_named("lmdb"), dry_run=dry_run)


def apply(path: str | os.PathLike[str], file: str | os.PathLike[str], *, dry_run: bool = False) -> Change:
    """Makes a store what a file declares or a saved plan says, the store too where there is none; see `Store.apply`."""
    from grafctl.nouns.declared import apply_file

    return apply_file(Path(path), Path(file), dry_run=dry_run)


def plan(
    path: str | os.PathLike[str], file: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None
) -> Plan:
    """Returns what `apply` of a file would make, and saves that to `out`; there may be no store yet."""
    from grafctl.nouns.declared import plan_file

    return plan_file(Path(path), Path(file), Path(out) if out is not None else None)


def drift(path: str | os.PathLike[str], file: str | os.PathLike[str]) -> Drift:
    """Returns every difference between what a file declares and a store."""
    from grafctl.nouns.declared import drift_file

    return drift_file(Path(path), Path(file))


def restore(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    domains: Mapping[str, Path | None] | None = None,
    *,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> Change:
    """Makes a new store of a backup in a directory that holds none; without `path` the backup is only checked."""
    from grafctl.nouns import backups

    if path is None:
        return backups.check_backup(Path(backup))
    where = Path(path).absolute()
    return backups.restore(Path(backup), where, domains or {}, driver_named("lmdb"), progress, dry_run=dry_run)


def keygen(name: str, directory: str | os.PathLike[str]) -> Shown:
    """Writes NAME.key (mode 600) and NAME.pub for a health authority; never overwrites either."""
    from grafctl.store.signing import generate

    return generate(check_name("authority", name), Path(directory))
