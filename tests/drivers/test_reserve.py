"""The reserve at the end of a journal: what frees or protects goes on where LMDB has no room, and nothing else does.

A map that may not grow stands for the full disk: LMDB says `Full` of both, and both leave the journal's blocks alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.contract import IDENTITY
from grafctl.errors import Full
from grafctl.store.driver.journal import RESERVE_BYTES
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment

MAP_BYTES = 1 << 20
ROW = b"x" * 10_100  # a commit of one takes 10 KiB of the journal


@pytest.fixture
def full(path: Path) -> Iterator[LmdbEnvironment]:
    """An environment that has no room for anything ordinary."""
    driver = LmdbDriver(map_size=MAP_BYTES, map_size_max=MAP_BYTES)
    driver.create(path, IDENTITY)
    environment = driver.open(path, IDENTITY)
    with pytest.raises(Full):
        for number in range(10_000):
            put(environment, b"row %d" % number, reserved=False)
    yield environment
    environment.close()


def put(environment: LmdbEnvironment, key: bytes, *, reserved: bool, value: bytes = ROW) -> None:
    with environment.write(wait_s=5) as batch:
        batch.put(key, value)
        if reserved:
            batch.use_reserve()


def keys(environment: LmdbEnvironment) -> set[bytes]:
    with environment.read() as view:
        return {key for key, _ in view.scan(b"a", b"z")}


def left(environment: LmdbEnvironment) -> int:
    with environment.read():
        return environment.reserve()[0]


def test_only_a_block_that_asks_for_it_gets_the_reserve(full: LmdbEnvironment) -> None:
    for _ in range(5):
        with pytest.raises(Full):
            put(full, b"ordinary", reserved=False)
    assert left(full) == RESERVE_BYTES
    put(full, b"freeing", reserved=True)
    assert left(full) < RESERVE_BYTES
    with pytest.raises(Full):
        put(full, b"ordinary", reserved=False)
    assert b"freeing" in keys(full) and b"ordinary" not in keys(full)


def test_the_whole_reserve_may_be_used_and_then_it_is_full_for_all(full: LmdbEnvironment, path: Path) -> None:
    done = 0
    with pytest.raises(Full):
        for done in range(10_000):
            put(full, b"more %04d" % done, reserved=True)
    assert done >= 100 and left(full) < 10_240
    expected = keys(full)
    assert len([key for key in expected if key.startswith(b"more")]) == done
    full.close()
    other = LmdbDriver().open(path, IDENTITY)
    assert keys(other) == expected, "all of it is durable, and another process sees it"
    put(other, b"ordinary", reserved=False)
    assert left(other) == RESERVE_BYTES, "with room again, the next block gives the reserve back"
    assert keys(other) == expected | {b"ordinary"}
    other.close()


def test_what_is_large_may_use_the_reserve_too(full: LmdbEnvironment) -> None:
    put(full, b"large", reserved=True, value=bytes(200_000))
    assert b"large" in keys(full)
    with pytest.raises(Full):
        put(full, b"too large", reserved=True, value=bytes(RESERVE_BYTES))
