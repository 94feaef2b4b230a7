"""Opens the store in a directory where it may not be there yet, or was left half-made.

Promises
- An environment is opened once in a process: who has the store open already hands its session on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from grafctl.errors import NotFound, Usage
from grafctl.store import files
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import Driver
from grafctl.store.session import Session


class OpenStore(Protocol):
    """What is needed of `client.Store`, which stands on a floor above."""

    session: Session


def default_driver() -> Driver:
    from grafctl.store.driver.lmdb import LmdbDriver

    return LmdbDriver()


def open_session(directory: Path, driver: Driver) -> Session:
    """Returns an open store; raises `NotFound`, or `Usage` where another driver made it."""
    file = files.read(directory)
    if file.driver != driver.name:
        raise Usage(f"The store in {directory} was made with the driver {file.driver}, not {driver.name}.")
    return Session(Cluster(driver, file.identity, file.places(directory), directory))


@contextmanager
def session_if_begun(directory: Path, driver: Driver) -> Iterator[Session | None]:
    """Yields the open store, or None where there is none or it was left half-made: its own logs have not begun."""
    try:
        session = open_session(directory, driver)
    except NotFound:
        yield None
        return
    try:
        yield session if _is_begun(session) else None
    finally:
        session.close()


def _is_begun(session: Session) -> bool:
    """Returns whether both logs of the store have begun; one with more than a beginning shows that the other had."""
    best = session.control.observe().best()
    return best is not None and (best.head.tail > 1 or session.audit.exists())


@contextmanager
def opened(directory: Path, driver: Driver) -> Iterator[Session]:
    """Yields the open store, and closes it."""
    session = open_session(directory, driver)
    try:
        yield session
    finally:
        session.close()
