"""The driver on LMDB passes the suite."""

from pathlib import Path

import pytest

from drivers import raw_lmdb
from drivers.contract import DriverContract
from grafctl.store.driver.contract import Driver
from grafctl.store.driver.lmdb import LmdbDriver


class TestLmdb(DriverContract):
    @pytest.fixture
    def driver(self) -> Driver:
        return LmdbDriver()

    def raw_rows(self, driver: Driver, path: Path) -> dict[bytes, bytes]:
        return raw_lmdb.rows(path)

    def raw_put(self, driver: Driver, path: Path, key: bytes, value: bytes) -> None:
        raw_lmdb.put(path, key, value)


@pytest.mark.parametrize("journal_size", [0, 1024, 4096])
class TestLmdbWithASmallJournal(TestLmdb):
    """LMDB takes the journal in at nearly every commit, or there is none."""

    @pytest.fixture
    def driver(self, journal_size: int) -> Driver:
        return LmdbDriver(journal_size=journal_size)
