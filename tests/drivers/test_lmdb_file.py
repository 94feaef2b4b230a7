"""What only LMDB has: its map, the pages it maps, and a disk that has no room for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers import raw_lmdb
from drivers.children import ended
from drivers.contract import IDENTITY, get, put
from grafctl.errors import Full, Unreachable
from grafctl.store.driver import lmdb_handle
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment

MIB = 1 << 20


@pytest.fixture
def small(path: Path) -> Iterator[LmdbEnvironment]:
    """An environment with a map of 1 MiB."""
    driver = LmdbDriver(map_size=MIB)
    driver.create(path, IDENTITY)
    environment = driver.open(path, IDENTITY)
    yield environment
    environment.close()


def fill(environment: LmdbEnvironment, count: int) -> None:
    """Writes `count` rows of 100 KiB in one block."""
    with environment.write(wait_s=1) as batch:
        for number in range(count):
            batch.put(b"row %d" % number, b"x" * 100_000)


# --- the map ---


def test_a_block_that_met_the_end_of_the_map_works_when_it_runs_again(small: LmdbEnvironment, path: Path) -> None:
    put(small, b"a", b"1")
    failures = 0
    while True:
        try:
            fill(small, 50)
            break
        except Full as full:
            assert full.grown
            failures += 1
            with small.read() as view:
                assert [key for key, _ in view.scan(b"", b"z")] == [b"a"]
    assert 0 < failures < 10
    small.close()
    assert len(raw_lmdb.rows(path)) == 51


def test_a_map_at_its_limit_is_full_and_still_reads_and_deletes(path: Path) -> None:
    driver = LmdbDriver(map_size=MIB, map_size_max=MIB)
    driver.create(path, IDENTITY)
    env = driver.open(path, IDENTITY)
    fill(env, 5)
    for _ in range(3):
        with pytest.raises(Full) as caught:
            fill(env, 12)
        assert not caught.value.grown
    assert get(env, b"row 4") is not None
    with env.write(wait_s=1) as batch:
        assert all(batch.delete(b"row %d" % number) for number in range(5))
    fill(env, 4)
    env.close()


def test_a_block_that_is_too_large_for_the_map_writes_nothing(small: LmdbEnvironment) -> None:
    with pytest.raises(Full) as caught, small.write(wait_s=1) as batch:
        batch.put(b"a", b"1")
        batch.put(b"b", b"x" * 2 * MIB)
    assert caught.value.grown
    assert get(small, b"a") is None and get(small, b"b") is None


def test_another_process_may_grow_the_map(small: LmdbEnvironment, path: Path) -> None:
    put(small, b"a", b"1")
    grow = """
e = env()
with e.write(wait_s=1) as batch:
    for number in range(100):
        batch.put(b"far %d" % number, b"x" * 100_000)
"""
    assert ended(grow, path)[0] == 0
    assert get(small, b"far 99") == b"x" * 100_000
    assert ended(grow.replace("far", "farther"), path)[0] == 0
    put(small, b"b", b"2")
    assert get(small, b"farther 99") == b"x" * 100_000


def test_the_map_waits_for_open_views_with_a_deadline(small: LmdbEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    put(small, b"a", b"1")
    with small.read() as view:
        with pytest.raises(Full):
            fill(small, 15)
        monkeypatch.setattr(lmdb_handle, "IDLE_WAIT_S", 0.01)
        with pytest.raises(Unreachable, match="snapshots"):
            fill(small, 15)
        assert view.get(b"a") == b"1"
    fill(small, 15)


def test_a_process_with_little_address_space_takes_a_smaller_map(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    code = 'resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); put(env(), b"b", b"2"); say("ok")'
    assert ended(code, path) == (0, "ok")
    assert get(env, b"b") == b"2"


def test_pages_that_were_looked_at_do_not_stay_in_memory(env: LmdbEnvironment, path: Path) -> None:
    code = """
e = env()
def mapped():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("RssFile")]
    return int(line.split()[1]) >> 10
before, most = mapped(), 0
for number in range(100):
    put(e, b"row %d" % number, os.urandom(1 << 20))
    most = max(most, mapped())
for number in range(100):
    assert len(get(e, b"row %d" % number)) == 1 << 20
    most = max(most, mapped())
say(str(most - before < 60))
"""
    assert ended(code, path) == (0, "True")


# --- a disk that has no room ---


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; skipped where this user may not mount one."""
    point = tmp_path / "disk"
    point.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs '{point}' 2>/dev/null"):
        pytest.skip("may not mount a tmpfs")
    yield point
    os.system(f"umount '{point}'")


def test_a_full_disk_writes_nothing_and_works_again(tiny_disk: Path) -> None:
    driver = LmdbDriver(journal_size=8192)
    driver.create(tiny_disk / "domain", IDENTITY)
    env = driver.open(tiny_disk / "domain", IDENTITY)
    put(env, b"a", b"x" * 300_000)
    for _ in range(2):
        with pytest.raises(Full) as caught:
            put(env, b"b", b"x" * 900_000)
        assert not caught.value.grown
    assert get(env, b"a") == b"x" * 300_000
    with env.write(wait_s=1) as batch:
        batch.delete(b"a")
    put(env, b"b", b"x" * 200_000)
    env.close()
    assert raw_lmdb.rows(tiny_disk / "domain") == {b"b": b"x" * 200_000}


def test_creating_on_a_full_disk_leaves_nothing(tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(1_000_000))
    with pytest.raises(Full):
        LmdbDriver().create(tiny_disk / "domain", IDENTITY)
    assert [entry.name for entry in tiny_disk.iterdir()] == ["ballast"]


def test_an_error_in_the_commit_is_of_unknown_outcome_and_the_next_use_opens_anew(
    env: LmdbEnvironment, path: Path
) -> None:
    put(env, b"a", b"1")
    code = """
e = env()
put(e, b"a", b"2")
handle = e.handle()
size = os.stat(path / "env" / "data.mdb").st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
try:
    put(e, b"b", b"x" * 3_000_000)
except OutcomeUnknown:
    say("unknown")
assert e.handle() is not handle
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(e, b"c", b"3")
say(repr(get(e, b"a")))
"""
    assert ended(code, path) == (0, "unknown\nb'2'")
    assert get(env, b"c") == b"3"
