"""What the scenarios of faults share in a module: one fork server, and the stores that they begin with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from faults.forks import Forks
from faults.stores import Templates
from grafctl import clock


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Templates:
    return Templates(tmp_path_factory.mktemp("stores"), forks)


@pytest.fixture(scope="module")
def own_time() -> Iterator[None]:
    """Lets a module set the clock of the processes that it starts, and leaves that as it was."""
    before = os.environ.pop(clock.OFFSET_VARIABLE, None)
    yield
    os.environ.pop(clock.OFFSET_VARIABLE, None)
    if before is not None:
        os.environ[clock.OFFSET_VARIABLE] = before
