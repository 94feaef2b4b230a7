"""LMDB files after an accident: torn, replaced, moved, foreign, put back; and what the driver says of them."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import time
from pathlib import Path

import pytest

from drivers import raw_lmdb
from drivers.children import ended
from drivers.contract import IDENTITY, get, put
from drivers.test_lmdb_file import MIB, fill
from grafctl.errors import Damaged, OutcomeUnknown, Unreachable
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment, structural_findings
from grafctl.store.driver.lmdb_directory import create
from grafctl.store.driver.lmdb_files import IDENTITY_KEY, LOCK_FILE_BYTES, Files, Watch, encode_identity


def refused(environment: LmdbEnvironment, error: type[Exception], match: str) -> None:
    """Asserts that neither a view nor a batch is to be had."""
    with pytest.raises(error, match=match), environment.read():
        pass
    with pytest.raises(error, match=match), environment.write(wait_s=0):
        pass
    environment.close()


def data(path: Path) -> Path:
    return path / "env" / "data.mdb"


# --- files after an accident ---


def test_a_file_without_bytes_is_damaged_and_not_a_new_environment(env: LmdbEnvironment, path: Path) -> None:
    os.truncate(data(path), 0)
    refused(env, Damaged, "ends within its meta pages")


@pytest.mark.parametrize("lost", [1, 4096, 100_000])
def test_a_truncated_file_is_damaged(path: Path, lost: int) -> None:
    LmdbDriver().create(path, IDENTITY)
    raw_lmdb.put(path, b"a", b"x" * 500_000)
    os.truncate(data(path), data(path).stat().st_size - lost)
    refused(LmdbDriver().open(path, IDENTITY), Damaged, "lacks")


@pytest.mark.parametrize("page", [0, 1])
def test_a_meta_page_that_is_none_is_damaged(env: LmdbEnvironment, path: Path, page: int) -> None:
    with data(path).open("r+b") as file:
        file.seek(page * os.sysconf("SC_PAGE_SIZE"))
        file.write(bytes(4096))
    refused(env, Damaged, "meta page")


def test_a_sound_file_may_lack_pages_that_nobody_uses(path: Path) -> None:
    """LMDB does not write pages that the transaction which took them gave back: such a file is short and whole."""
    LmdbDriver().create(path, IDENTITY)
    raw_lmdb.leave_short(path)
    missing = raw_lmdb.bytes_missing(path)
    assert missing > 0
    env = LmdbDriver().open(path, IDENTITY)
    put(env, b"b", b"2")
    assert raw_lmdb.bytes_missing(path) == 0
    env.close()


def test_a_commit_leaves_no_file_that_is_short(env: LmdbEnvironment, path: Path) -> None:
    for turn in range(20):
        put(env, b"kept", b"%d" % turn)
        with env.write(wait_s=1) as batch:
            batch.put(b"kept %d" % turn, b"1")
            batch.put(b"given back", b"x" * MIB)
            batch.delete(b"given back")
        assert raw_lmdb.bytes_missing(path) == 0


def test_of_two_that_create_one_is_refused(path: Path) -> None:
    def slow(files: Files, rows: dict[bytes, bytes]) -> None:
        Path(os.fsdecode(files.data)).touch()
        LmdbDriver().create(path, IDENTITY)

    with pytest.raises(Unreachable, match="already"):
        create(str(path), IDENTITY, slow)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_creation_is_whole_or_absent(path: Path) -> None:
    code = "LmdbDriver().create(path, IDENTITY)"
    assert ended(code, path, {"GRAFCTL_KILL_AT": "driver.create.rename:1"})[0] == -signal.SIGKILL
    assert not path.exists() and len(list(path.parent.iterdir())) == 1
    refused(LmdbDriver().open(path, IDENTITY), Unreachable, "missing")
    LmdbDriver().create(path, IDENTITY)
    LmdbDriver().destroy(path)
    assert list(path.parent.iterdir()) == []


def test_an_environment_of_another_program_is_not_trusted(path: Path) -> None:
    path.mkdir()
    raw_lmdb.put(path, b"a", b"1", create=True)
    refused(LmdbDriver().open(path, IDENTITY), Damaged, "no identity")


@pytest.mark.parametrize(("place", "error"), [(0, Unreachable), (3, Damaged), (20, Damaged)])
def test_a_changed_identity_row_is_refused(path: Path, place: int, error: type[Exception]) -> None:
    LmdbDriver().create(path, IDENTITY)
    row = bytearray(encode_identity(IDENTITY))
    row[place] ^= 1 << 4
    raw_lmdb.put(path, IDENTITY_KEY, bytes(row))
    refused(LmdbDriver().open(path, IDENTITY), error, "identity")


def test_another_lmdb_engine_is_refused_and_the_variable_does_not_choose_it(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    code = 'put(env(), b"b", b"2"); LmdbDriver().create(path.parent / "other", IDENTITY); say("ok")'
    assert ended(code, path, {"LMDB_DEFAULT_LIB_VERSION": "1"}) == (0, "ok")
    assert get(env, b"b") == b"2"
    other = LmdbDriver().open(path.parent / "other", IDENTITY)
    put(other, b"a", b"1")
    other.close()
    with data(path.parent / "other").open("r+b") as file:
        file.seek(20)
        file.write(struct.pack("=I", 3))
    refused(LmdbDriver().open(path.parent / "other", IDENTITY), Damaged, "data version 3")


def test_a_wiped_domain_is_not_the_one_that_was_open(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    LmdbDriver().destroy(path)
    LmdbDriver().create(path, Identity(IDENTITY.store, IDENTITY.domain, "inc_second"))
    refused(env, Damaged, "inc_second")


@pytest.mark.parametrize("size", [1, MIB])
@pytest.mark.parametrize("name", ["data.mdb", "journal"])
def test_an_older_copy_that_was_put_back_is_damaged(env: LmdbEnvironment, path: Path, name: str, size: int) -> None:
    put(env, b"a", b"x" * MIB)
    put(env, b"b", b"1")
    shutil.copy(path / "env" / name, path / "copy")
    put(env, b"a", b"y" * size)
    put(env, b"b", b"2")
    with env.write(wait_s=1) as batch:
        batch.delete(b"none")  # a block without a change must not lose the mark
    os.replace(path / "copy", path / "env" / name)
    if (name, size) == ("data.mdb", 1):  # LMDB took nothing in meanwhile
        assert (get(env, b"a"), get(env, b"b")) == (b"y", b"2")
        return
    refused(env, Damaged, "older copy")
    refused(LmdbDriver().open(path, IDENTITY), Damaged, "older copy")


@pytest.mark.parametrize("mark", [b"", b"\1\2\3", b"\xff" * 16])
def test_a_torn_mark_means_nothing(path: Path, mark: bytes) -> None:
    LmdbDriver().create(path, IDENTITY)
    (path / "writer.lock").write_bytes(mark)
    env = LmdbDriver().open(path, IDENTITY)
    put(env, b"a", b"1")
    assert get(env, b"a") == b"1"
    env.close()


@pytest.mark.parametrize("size", [None, 0, 100])
def test_the_readers_file_is_rebuilt_and_has_its_blocks(path: Path, size: int | None) -> None:
    LmdbDriver().create(path, IDENTITY)
    lock = path / "env" / "lock.mdb"
    lock.unlink() if size is None else lock.write_bytes(b"\xaa" * size)
    env = LmdbDriver().open(path, IDENTITY)
    put(env, b"a", b"1")
    env.close()
    assert lock.stat().st_blocks * 512 >= LOCK_FILE_BYTES


def test_the_offline_walk_finds_a_page_of_zeros(env: LmdbEnvironment, path: Path) -> None:
    fill(env, 3)
    env.close()
    assert structural_findings(path) == []
    with data(path).open("r+b") as file:
        file.seek(2 * os.sysconf("SC_PAGE_SIZE"))
        file.write(bytes(12_288))
    assert structural_findings(path)
    with pytest.raises(FileNotFoundError):
        structural_findings(path.parent / "nothing")  # which may pass, and is no damage


# --- files that move under an open handle ---


def test_a_file_that_was_renamed_under_us_is_missing_until_it_is_back(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    time.sleep(0.06)  # so that the directory's time is old enough to be believed
    put(env, b"a", b"2")
    os.rename(path / "env", path / "away")
    with pytest.raises(Unreachable, match="missing"):
        put(env, b"a", b"3")
    with pytest.raises(Unreachable, match="missing"):
        get(env, b"a")
    os.rename(path / "away", path / "env")
    assert get(env, b"a") == b"2"
    os.rename(data(path), path / "data")
    with pytest.raises(Unreachable, match="missing"):
        get(env, b"a")
    os.rename(path / "data", data(path))
    put(env, b"a", b"4")
    assert get(env, b"a") == b"4"


@pytest.mark.parametrize("wait_s", [0, 0.06])
def test_a_commit_into_a_file_that_was_moved_meanwhile_is_of_unknown_outcome(
    env: LmdbEnvironment, path: Path, wait_s: float
) -> None:
    put(env, b"a", b"1")
    time.sleep(wait_s)
    put(env, b"a", b"1")
    with pytest.raises(OutcomeUnknown), env.write(wait_s=1) as batch:
        batch.put(b"a", b"2")
        os.rename(data(path), path / "data")
    os.rename(path / "data", data(path))
    assert get(env, b"a") == b"2"


def test_a_directory_that_changed_just_now_is_not_believed(path: Path) -> None:
    """On a coarse clock a second change bears the time of the first, and would be missed for ever."""
    LmdbDriver().create(path, IDENTITY)
    files = Files(str(path))
    watch = Watch(files, data(path).stat().st_ino)
    seen = time.time_ns() + 10**9  # so that "just now" lasts as long as this test takes
    os.utime(path / "env", ns=(seen, seen))
    assert watch.is_same()
    os.rename(data(path), path / "data")
    os.utime(path / "env", ns=(seen, seen))
    assert not watch.is_same()


def test_one_process_may_open_one_file_by_several_names(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    (path.parent / "link").symlink_to(path)
    other = LmdbDriver().open(path.parent / "link", IDENTITY)
    put(other, b"b", b"2")
    env.close()
    assert (get(other, b"a"), get(other, b"b")) == (b"1", b"2")
    other.close()
    assert raw_lmdb.rows(path) == {b"a": b"1", b"b": b"2"}  # and the file is free again
