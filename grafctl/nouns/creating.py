"""`init`: a new store with its domains, its control log and its audit log.

Promises
- `store.toml` is written first and names everything; every later step can be done again, so the same call finishes
  what a crash left.
- A directory that holds another store, or one with other domains, is refused and not touched.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.errors import (
    DriverError,
    Full,
    GenerationConflict,
    GrafctlError,
    NotFound,
    StoreFull,
    Unreachable,
    Usage,
)
from grafctl.names import check_domain
from grafctl.nouns.file_systems import require_local
from grafctl.results import Change
from grafctl.store import files, keys
from grafctl.store.beginning import begin_log
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Driver, Identity
from grafctl.store.driver.private import sync_path
from grafctl.store.log import Log
from grafctl.store.records import config_fields
from grafctl.store.resources.applying import apply_entry
from grafctl.store.rules import Config, Voter

RESTORE_NAME = "restore.json"
SYSTEM_LOGS = (keys.CONTROL_LOG, keys.AUDIT_LOG)


def create_store(
    directory: Path,
    domains: Mapping[str, Path | None],
    driver: Driver,
    *,
    identity: str | None = None,
    dry_run: bool,
) -> Change:
    """Makes the store, or finishes one that was begun with the same domains; without an `identity` it draws one."""
    if not domains:
        raise Usage("A store needs at least one domain.", hint="Run `grafctl init DIR --domain aws --domain gcp`.")
    for domain in domains:
        check_domain(domain)
    actions = [f"create {directory / files.FILE_NAME}"]
    actions += [f"create the environment of {domain}" for domain in domains]
    if dry_run:
        there = _existing(directory, domains)
        if there is None:
            require_local(_wanted(directory, domains))
        return Change(there is None, after=_shown(directory, domains), dry_run=True, actions=[] if there else actions)
    with files.locked(directory):
        file = _existing(directory, domains)
        changed = file is None
        if file is None:
            require_local(_wanted(directory, domains))
            file = files.StoreFile(identity or clock.random_token("st"), driver.name, {})
            for domain, path in domains.items():
                file = file.with_domain(domain, str(path.absolute()) if path else files.default_path(domain))
            files.write(directory, file)
        # Only while it is still being made: one that is lost later held a vote, and must not come back empty.
        if changed or not _has_begun(driver, file, directory):
            _flush_names(directory)
            changed |= create_environments(driver, file, directory)
        changed |= _begin_system_logs(driver, file, directory)
    after = _shown(directory, domains) | {"identity": file.identity}
    return Change(changed, after=after, actions=actions if changed else [])


def _flush_names(directory: Path) -> None:
    try:
        files.flush_names(directory)
    except OSError as error:
        raise files.unwritable(directory, error) from None


def _wanted(directory: Path, domains: Mapping[str, Path | None]) -> list[tuple[str, Path]]:
    """Returns where each domain of a new store is to be."""
    return [(domain, path or directory / files.default_path(domain)) for domain, path in domains.items()]


def _shown(directory: Path, domains: Mapping[str, Path | None]) -> dict[str, Any]:
    return {"store": str(directory), "domains": list(domains)}


def _existing(directory: Path, domains: Mapping[str, Path | None]) -> files.StoreFile | None:
    """Returns the store that is there with exactly these domains, or None; raises `GenerationConflict` for another."""
    try:
        file = files.read(directory)
    except NotFound:
        if directory.exists() and not directory.is_dir():
            raise Usage(f"{directory} is not a directory.") from None
        if (directory / RESTORE_NAME).exists():
            raise GenerationConflict(
                f"A restore to {directory} was begun and not finished.",
                hint="Run the same `grafctl restore` again, or take another directory.",
            ) from None
        return None
    places = file.places(directory)
    same = set(places) >= set(domains) and all(
        path is None or places[domain].path == path.absolute() for domain, path in domains.items()
    )
    if not same:
        raise GenerationConflict(
            f"There is a store in {directory} already, with {', '.join(file.domains)}.",
            hint="Add a domain to it with `grafctl domain add`, or take another directory.",
        )
    return file


def create_environments(driver: Driver, file: files.StoreFile, directory: Path, only: str | None = None) -> bool:
    """Creates the environments that are missing, or the one of `only`; returns whether there were any."""
    changed = False
    for domain, place in file.places(directory).items():
        if only not in (None, domain):
            continue
        try:
            if place.path.exists():  # perhaps made by one that died before its name was durable
                sync_path(place.path.parent)
                continue
            driver.create(place.path, Identity(file.identity, domain, place.incarnation))
        except OSError as error:
            raise files.unwritable(place.path, error) from None
        except (Full, Unreachable) as error:
            raise _not_made(domain, place.path, error) from error
        changed = True
    return changed


def _not_made(domain: str, path: Path, error: DriverError) -> GrafctlError:
    """Returns the refusal where an environment cannot be made: no room, a sick disk, or a path that will not do."""
    cause = error.__cause__
    if isinstance(error, Full):
        return StoreFull(f"There is no room for the environment of {domain} in {path}.", domain=domain)
    if isinstance(cause, OSError) and cause.errno == errno.EIO:
        return files.unwritable(path, cause)
    return Usage(f"The environment of {domain} cannot be made: {error.why}.")


def _has_begun(driver: Driver, file: files.StoreFile, directory: Path) -> bool:
    """Returns whether any environment of the store holds its control log already."""
    cluster = Cluster(driver, file.identity, file.places(directory), directory)
    try:
        return Log(cluster, keys.CONTROL_LOG, cluster.domains, apply_entry).exists()
    finally:
        cluster.close()


def _begin_system_logs(driver: Driver, file: files.StoreFile, directory: Path) -> bool:
    cluster = Cluster(driver, file.identity, file.places(directory), directory)
    try:
        changed = False
        for log_id in SYSTEM_LOGS:
            log = Log(cluster, log_id, cluster.domains, apply_entry)
            if not log.exists():
                begin_log(cluster, log, _majority_start(cluster), clock.random_u64(), clock.now_ms())
                changed = True
        return changed
    finally:
        cluster.close()


def _majority_start(cluster: Cluster) -> dict[str, Any]:
    voters = tuple(Voter(*cluster.member(domain)) for domain in cluster.domains)
    size = len(voters) // 2 + 1
    config = Config(0, (0, 0), cluster.domains[0], voters, size, size)
    return {"do": "start", **config_fields(config)}
