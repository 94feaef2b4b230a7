"""A fault driver without a fault passes the suites of the drivers that it wraps."""

from pathlib import Path
from typing import Any

import pytest

from drivers.test_lmdb import TestLmdb as LmdbSuite
from drivers.test_memory import TestMemory as MemorySuite
from grafctl.store.driver.faults import FaultDriver
from grafctl.store.driver.lmdb import LmdbDriver
from grafctl.store.driver.memory import MemoryDriver


class TestFaultsOverMemory(MemorySuite):
    @pytest.fixture
    def driver(self) -> Any:
        return FaultDriver(MemoryDriver(), lambda domain, step, count: None)

    def raw_rows(self, driver: Any, path: Path) -> dict[bytes, bytes]:
        return super().raw_rows(driver.inner, path)

    def raw_put(self, driver: Any, path: Path, key: bytes, value: bytes) -> None:
        super().raw_put(driver.inner, path, key, value)


class TestFaultsOverLmdb(LmdbSuite):
    @pytest.fixture
    def driver(self) -> Any:
        return FaultDriver(LmdbDriver(), lambda domain, step, count: None)
