"""The driver in memory passes the suite."""

from pathlib import Path
from typing import Any

import pytest

from drivers.contract import DriverContract
from grafctl.store.driver.memory import MemoryDriver


class TestMemory(DriverContract):
    @pytest.fixture
    def driver(self) -> Any:
        return MemoryDriver()

    def raw_rows(self, driver: Any, path: Path) -> dict[bytes, bytes]:
        return dict(driver.domains[str(path)].snapshot.values)

    def raw_put(self, driver: Any, path: Path, key: bytes, value: bytes) -> None:
        driver.domains[str(path)].snapshot.keys.append(key)
        driver.domains[str(path)].snapshot.values[key] = value
