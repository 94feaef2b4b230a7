"""What the scenarios of faults share in a module: one fork server, and the stores that they begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.forks import Forks
from faults.stores import Templates


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Templates:
    return Templates(tmp_path_factory.mktemp("stores"), forks)
