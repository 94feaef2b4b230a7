"""`restore`: makes a new store of a backup, in a directory that holds none.

Steps: read all of the file; write `restore.json`, which names the new store and its domains; make the environments;
fill them; verify; write `store.toml`, with which there is a store.

Promises
- Nothing is written before every byte of the backup was read and found right, and nothing where a store is already.
- There is no `store.toml` before `verify` has found nothing and every chain and digest is that of the backup: what was
  cut short is no store, and nobody opens it.
- The same command again begins anew and takes away what it left, in whatever state a kill or a power loss left that;
  after its end it changes nothing. What it takes away bears the identity that `restore.json` drew for it, and nothing
  else is ever taken away.

When it fails: the environments are removed. A killed one leaves them, with `restore.json`, for the next.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.errors import (
    Corrupt,
    DomainUnavailable,
    DriverError,
    Full,
    GenerationConflict,
    GrafctlError,
    NotFound,
    StoreFull,
    Usage,
)
from grafctl.names import check_domain
from grafctl.nouns.creating import RESTORE_NAME, create_environments
from grafctl.nouns.file_systems import require_local
from grafctl.results import Change
from grafctl.store import files
from grafctl.store.cluster import Cluster, Place
from grafctl.store.driver.contract import Driver
from grafctl.store.driver.kill import point
from grafctl.store.operations.backup import shown_log
from grafctl.store.operations.backup_file import BackupFile, Manifest
from grafctl.store.operations.restoring import compare, domains_of, fill
from grafctl.store.operations.verify import verify
from grafctl.store.session import Session

Progress = Callable[[str, int, int], None]


def check_backup(path: Path) -> Change:
    """Reads all of a backup; raises `Usage` or `Corrupt`."""
    return Change(True, after=_told(BackupFile(path).check()), dry_run=True, actions=[f"read all of {path}"])


def restore(
    path: Path,
    directory: Path,
    domains: Mapping[str, Path | None],
    driver: Driver,
    progress: Progress | None,
    *,
    dry_run: bool,
) -> Change:
    """Makes the store, or finishes it; see the module's text."""
    backup = BackupFile(path)
    manifest = backup.check()
    wanted = _places(manifest, domains)
    if _is_done(directory, manifest, wanted):
        return _change(False, directory, manifest, files.read(directory), dry_run)
    _require_empty(directory, wanted)
    require_local([(domain, directory / place) for domain, place in wanted.items()])
    if dry_run:
        return _change(True, directory, manifest, files.StoreFile("", driver.name, {}), True, wanted)
    is_new = not directory.exists()
    with files.locked(directory):
        _require_empty(directory, wanted)
        _clear(directory, driver, wanted)
        file = files.StoreFile(clock.random_token("st"), driver.name, {})
        for domain, place in wanted.items():
            file = file.with_domain(domain, place)
        try:
            _make(driver, file, directory, backup, manifest, progress)
        except Exception as error:
            with contextlib.suppress(GrafctlError):
                _clear(directory, driver, wanted)
                _forget(directory, is_new)
            raise _told_error(error) from error
    return _change(True, directory, manifest, file, False)


def _places(manifest: Manifest, domains: Mapping[str, Path | None]) -> dict[str, str]:
    """Returns where each domain goes: to its default place, unless another was named."""
    found = {domain: files.default_path(domain) for domain in domains_of(manifest)}
    for domain, place in domains.items():
        if check_domain(domain) not in found:
            raise NotFound(f"The backup has no domain {domain}; it has {', '.join(found)}.", domain=domain)
        if place is not None:
            found[domain] = str(place.absolute())
    return found


def _record(directory: Path) -> dict[str, Any] | None:
    """Returns what an earlier restore to this directory wrote down, or None."""
    try:
        found = json.loads((directory / RESTORE_NAME).read_text(encoding="utf-8"))
        places = {name: Place(row["path"], row["incarnation"]) for name, row in found["domains"].items()}
        return {"sha256": str(found["sha256"]), "store": str(found["store"]), "places": places}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Usage(
            f"{directory / RESTORE_NAME} is not readable: {error}.",
            hint="Remove it and what is beside it, or restore to another directory.",
        ) from None


def _is_done(directory: Path, manifest: Manifest, wanted: Mapping[str, str]) -> bool:
    """Returns whether this store was made from this backup; raises `GenerationConflict` where another is there."""
    try:
        file = files.read(directory)
    except NotFound:
        return False
    record = _record(directory)
    same = {domain: str(directory / place) for domain, place in wanted.items()}
    there = {domain: place.where for domain, place in file.places(directory).items()}
    if (
        record is not None
        and (record["sha256"], record["store"]) == (manifest.sha256, file.identity)
        and same.items() <= there.items()
    ):
        return True
    raise GenerationConflict(
        f"There is a store in {directory} already; a backup is restored only where there is none.",
        hint="Name another directory with --store.",
    )


def _require_empty(directory: Path, wanted: Mapping[str, str]) -> None:
    """Raises `GenerationConflict` where something is that no restore left behind."""
    if directory.exists() and not directory.is_dir():
        raise Usage(f"{directory} is not a directory.")
    if (directory / files.FILE_NAME).exists():
        raise GenerationConflict(f"There is a store in {directory} already.", hint="Name another directory.")
    record = _record(directory)
    ours = {place.where for place in record["places"].values()} if record else set()
    for domain, place in wanted.items():
        path = directory / place
        if path.exists() and str(path) not in ours:
            raise GenerationConflict(
                f"{path}, where {domain} would go, is there already.", hint="Name another place.", domain=domain
            )


def _make(
    driver: Driver,
    file: files.StoreFile,
    directory: Path,
    backup: BackupFile,
    manifest: Manifest,
    progress: Progress | None,
) -> None:
    _write_record(directory, file, manifest)
    point("restore.recorded")
    create_environments(driver, file, directory)
    point("restore.created")
    cluster = Cluster(driver, file.identity, file.places(directory), directory)
    try:
        fill(cluster, backup, manifest, progress)
        point("restore.filled")
        compare(cluster, manifest)
        session = Session(cluster)
        finding = next(verify(session), None)
        if finding is not None:
            raise Corrupt(f"The restored store is not in order: {finding.where}: {finding.problem}.")
        session.note("changed", "restore", backup=manifest.sha256, store=manifest.about["store"])
    finally:
        cluster.close()
    point("restore.verified")
    files.write(directory, file)
    point("restore.done")


def _write_record(directory: Path, file: files.StoreFile, manifest: Manifest) -> None:
    places = file.places(directory)
    rows = {name: {"path": place.where, "incarnation": place.incarnation} for name, place in places.items()}
    body = {"sha256": manifest.sha256, "store": file.identity, "domains": rows}
    files.replace(directory / RESTORE_NAME, json.dumps(body, indent=1).encode() + b"\n")


def _clear(directory: Path, driver: Driver, wanted: Mapping[str, str]) -> None:
    """Removes the environments that an earlier restore made where this one's go; raises `GenerationConflict` where
    something else is in a place that it wrote down."""
    record = _record(directory)
    if record is None:
        return
    mine = {str(directory / place) for place in wanted.values()}  # because the record may be a stranger's
    for domain, place in record["places"].items():
        if os.path.lexists(place.where):
            if place.where not in mine or not _is_ours(driver, record["store"], domain, place):
                raise GenerationConflict(
                    f"{place.where} is not what an earlier restore has left there, or cannot be told to be that.",
                    hint="Remove it if nobody needs it, or restore to another directory.",
                    domain=domain,
                )
        elif place.where not in mine:
            continue
        try:
            driver.destroy(place.where)
        except DriverError as error:
            raise _told_error(error) from error


def _is_ours(driver: Driver, store: str, domain: str, place: Place) -> bool:
    """Returns whether an environment bears the identity that a restore drew for it, whatever became of the rest."""
    found = None if place.path.is_symlink() else driver.identity_of(place.where)
    return found is not None and found[:3] == (store, domain, place.incarnation)


def _forget(directory: Path, is_new: bool) -> None:
    """Removes the rest of a restore that failed: what was made for it, and the directory if it was not there before."""
    (directory / RESTORE_NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (directory / files.DOMAINS_FOLDER).rmdir()
    if is_new:
        (directory / files.LOCK_NAME).unlink(missing_ok=True)
        (directory / "elect.lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()


def _told_error(error: Exception) -> Exception:
    """Returns what a driver's error means to the one who restores."""
    if isinstance(error, Full):
        return StoreFull(f"There is no room for {error.domain}: {error.why}.", domain=error.domain)
    if isinstance(error, DriverError):
        return DomainUnavailable(
            f"{error.domain} cannot be written: {error.why}.",
            reason="unreachable",
            hint="Run the same command again.",
            domain=error.domain,
        )
    return error


def _told(manifest: Manifest) -> dict[str, Any]:
    """Returns what a backup says of itself."""
    return {
        "backup": manifest.sha256,
        "taken_ms": manifest.about["taken_ms"],
        "of": manifest.about["store"],
        "one_moment": manifest.body["one_moment"],
        "logs": [shown_log(line) for line in manifest.body["logs"]],
    }


def _change(
    changed: bool,
    directory: Path,
    manifest: Manifest,
    file: files.StoreFile,
    dry_run: bool,
    wanted: Mapping[str, str] | None = None,
) -> Change:
    places = wanted or {domain: row["path"] for domain, row in file.domains.items()}
    after = {"store": str(directory), "identity": file.identity or None, "domains": list(places), **_told(manifest)}
    actions = [f"fill {domain} in {place}" for domain, place in places.items()]
    actions += ["verify all of it", f"create {directory / files.FILE_NAME}"]
    after = {word: value for word, value in after.items() if value is not None}
    return Change(changed, after=after, dry_run=dry_run or None, actions=actions if changed else [])
