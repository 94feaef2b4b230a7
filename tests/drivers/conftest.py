"""An LMDB domain for one test: where it is, and its environment, opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.contract import IDENTITY
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "domain"


@pytest.fixture
def env(path: Path) -> Iterator[LmdbEnvironment]:
    LmdbDriver().create(path, IDENTITY)
    environment = LmdbDriver().open(path, IDENTITY)
    yield environment
    environment.close()
