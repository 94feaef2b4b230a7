"""Files that something else has changed: seen by the stamp, read through by a child, and out once damage is found."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest
from damage.harm import BRANCH, LEAF, pages

from drivers import raw_lmdb
from drivers.children import child, ended, hear
from drivers.contract import IDENTITY, get, put
from drivers.test_lmdb_file import MIB, fill
from grafctl.errors import Corrupt, Damaged, Unreachable
from grafctl.store.driver import lmdb_probe, lmdb_stamp
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment
from grafctl.store.driver.lmdb_files import IDENTITY_KEY, Files

PAGE = os.sysconf("SC_PAGE_SIZE")


def data(path: Path) -> Path:
    return path / "env" / "data.mdb"


def is_stamped(path: Path) -> bool:
    with (path / "writer.lock").open("rb") as file:
        return lmdb_stamp.is_expected(file.fileno(), os.fsencode(data(path)), lambda: -1)


def zero_page(path: Path) -> None:
    """Overwrites a page of the tree, and puts the file's own time back."""
    page = pages(path, BRANCH | LEAF)[0]
    state = data(path).stat()
    with data(path).open("r+b") as file:
        file.seek(page * PAGE)
        file.write(bytes(PAGE))
    os.utime(data(path), ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the children of this process were asked."""
    asked: list[str] = []

    class Counted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **about: object) -> None:
            if "-I" in command:
                asked.append(command[6])
            super().__init__(command, **about)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", Counted)
    return asked


def test_commits_of_ours_leave_a_stamp_that_fits(env: LmdbEnvironment, path: Path, probes: list[str]) -> None:
    assert is_stamped(path)
    for size in (1, MIB, 1, 2 * MIB):
        put(env, b"a", b"x" * size)
        assert is_stamped(path)
    assert ended('put(env(), b"b", b"x" * 3_000_000); say("ok")', path) == (0, "ok")
    put(env, b"c", b"x" * MIB)
    env.close()
    assert get(LmdbDriver().open(path, IDENTITY), b"b") is not None
    assert probes == []


def test_a_sound_file_that_looks_otherwise_is_checked_once(path: Path, probes: list[str]) -> None:
    LmdbDriver().create(path, IDENTITY)
    shutil.copytree(path, path.parent / "copy")
    for _ in range(2):
        env = LmdbDriver().open(path.parent / "copy", IDENTITY)
        put(env, b"a", b"1")
        env.close()
    assert probes == ["once"] and is_stamped(path.parent / "copy")


def test_a_damaged_file_is_out_for_every_process_until_it_is_absolved(env: LmdbEnvironment, path: Path) -> None:
    fill(env, 3)
    put(env, b"last", b"x" * MIB)
    env.close()
    good = data(path).read_bytes()
    zero_page(path)
    for _ in range(2):
        with pytest.raises(Damaged, match="page"), LmdbDriver().open(path, IDENTITY).read():
            pass
    assert ended('try: get(env(), b"last")\nexcept Damaged as error: say("out")', path) == (0, "out")
    mark = json.loads((path / "env" / "DAMAGED").read_bytes())
    assert "page" in mark["what"] and mark["incarnation"] == IDENTITY.incarnation and mark["when_ms"] > 0
    assert LmdbDriver().damage(path) == mark["what"]
    with pytest.raises(Damaged):
        LmdbDriver().absolve(path, IDENTITY)
    data(path).write_bytes(good)
    with pytest.raises(Damaged), LmdbDriver().open(path, IDENTITY).read():
        pass
    LmdbDriver().absolve(path, IDENTITY)
    assert get(LmdbDriver().open(path, IDENTITY), b"last") == b"x" * MIB


def test_damage_that_one_process_meets_is_seen_by_another_that_has_it_open(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    code = """
e = env()
assert get(e, b"a") == b"1"
say("open")
until = time.monotonic() + 20
while time.monotonic() < until:
    try:
        get(e, b"a")
    except Damaged as error:
        say(error.why)
        break
"""
    with child(code, path) as other:
        hear(other, "open")
        for error in (Corrupt("another's", domain="elsewhere"), Corrupt("nobody's"), Damaged("elsewhere", "theirs")):
            with pytest.raises(type(error)), env.read():
                raise error
        assert LmdbDriver().damage(path) is None
        what = f"{IDENTITY.domain}: entry 5"
        with pytest.raises(Corrupt), env.read():
            raise Corrupt(f"{what} fails its checksum.", what=what)
        hear(other, "entry 5 fails its checksum")
    with pytest.raises(Damaged, match="entry 5 fails its checksum"):
        get(env, b"a")
    with pytest.raises(Damaged), env.write(wait_s=1):
        pass


def test_a_change_under_an_open_handle_is_not_covered_by_the_next_commit(env: LmdbEnvironment, path: Path) -> None:
    fill(env, 3)
    zero_page(path)
    with pytest.raises(Unreachable, match="something else"):
        put(env, b"a", b"x" * MIB)
    with pytest.raises(Damaged):
        put(env, b"a", b"x" * MIB)


def test_a_child_that_is_killed_by_what_it_reads_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LmdbDriver().create(path, IDENTITY)
    os.utime(data(path))
    monkeypatch.setattr(lmdb_probe, "_CODE", "import os; os.abort()")
    with pytest.raises(Damaged, match="SIGABRT"), LmdbDriver().open(path, IDENTITY).read():
        pass
    assert "SIGABRT" in str(LmdbDriver().damage(path))


def test_a_check_that_takes_long_is_waited_for_elsewhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LmdbDriver().create(path, IDENTITY)
    os.utime(data(path))
    monkeypatch.setattr(lmdb_probe, "WAIT_S", 0.0)
    with pytest.raises(Unreachable, match="still being checked"), LmdbDriver().open(path, IDENTITY).read():
        pass
    (running,) = lmdb_probe._left
    running.wait(30)
    assert is_stamped(path)


def test_a_writer_that_died_in_its_commit_leaves_nothing_to_check(path: Path, probes: list[str]) -> None:
    LmdbDriver().create(path, IDENTITY)
    kill = {"GRAFCTL_KILL_AT": "driver.commit.after:1"}
    assert ended('put(env(), b"a", b"x" * 3_000_000)', path, kill)[0] == -signal.SIGKILL
    assert not is_stamped(path)
    env = LmdbDriver().open(path, IDENTITY)
    assert get(env, b"a") is not None
    put(env, b"b", b"x" * MIB)
    assert is_stamped(path) and probes == []


def test_a_process_that_died_with_a_snapshot_open_gives_cause_for_a_check(path: Path, probes: list[str]) -> None:
    LmdbDriver().create(path, IDENTITY)
    assert ended('put(env(), b"a", b"x" * 2_000_000); say("ok")', path) == (0, "ok")
    for code, asked in (
        ("with env().read(): os.kill(os.getpid(), 9)", ["always"]),
        ("get(env(), b'a'); os._exit(0)", []),
    ):
        probes.clear()
        ended(code, path)
        env = LmdbDriver().open(path, IDENTITY)
        assert get(env, b"a") is not None
        env.close()
        assert probes == asked, code


def test_a_lost_or_torn_stamp_means_a_check(path: Path, probes: list[str]) -> None:
    LmdbDriver().create(path, IDENTITY)
    raw_lmdb.put(path, b"a", b"1")
    for number, harm in enumerate((b"", bytes(200), b"\xff" * 200), start=1):
        (path / "writer.lock").write_bytes(harm)
        env = LmdbDriver().open(path, IDENTITY)
        assert get(env, b"a") == b"1"
        env.close()
        assert probes == ["once"] * number


def test_a_mark_by_half_is_a_mark(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    for text in (b"", b"{", b"[]", b"\xff"):
        Path(os.fsdecode(Files(str(path)).damaged)).write_bytes(text)
        with pytest.raises(Damaged, match="damage was found"), env.read():
            pass


def test_whose_a_domain_is_can_be_told_while_its_first_row_is_left(path: Path) -> None:
    LmdbDriver().create(path, IDENTITY)
    with LmdbDriver().open(path, IDENTITY).write(wait_s=5) as batch:
        for number in range(20_000):
            batch.put(b"\x02%d" % number, b"x" * 100)
    raw = bytearray(data(path).read_bytes())
    keep, waiting = {0, 1}, pages(path, BRANCH | LEAF)
    number = next(page for page in waiting if raw[page * PAGE :].find(IDENTITY_KEY, 0, PAGE) >= 0)
    while True:
        keep.add(number)
        above = [page for page in pages(path, BRANCH) if _first_child(raw, page) == number]
        if not above:
            break
        (number,) = above
    assert 4 <= len(keep) < len(waiting) // 10
    for page in set(range(len(raw) // PAGE)) - keep:
        raw[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    data(path).write_bytes(raw)
    (path / "env" / "journal").unlink()
    assert LmdbDriver().identity_of(path) == IDENTITY


def _first_child(raw: bytearray, page: int) -> int:
    (at,) = struct.unpack_from("=H", raw, page * PAGE + 16)
    low, high, third = struct.unpack_from("=HHH", raw, page * PAGE + at)
    return int(low | high << 16 | third << 32)


def test_no_byte_of_a_file_makes_another_identity_of_it(path: Path, seed: int) -> None:
    LmdbDriver().create(path, IDENTITY)
    sound, rng, told = data(path).read_bytes(), random.Random(seed), set()
    for _ in range(1000):
        raw = bytearray(sound)
        for _ in range(rng.choice((1, 1, 8, 200))):
            raw[rng.choice((rng.randrange(len(raw)), rng.randrange(200), PAGE + rng.randrange(200)))] = rng.choice(
                (0, 255, rng.randrange(256))
            )
        data(path).write_bytes(raw[: rng.choice((len(raw), len(raw), rng.randrange(len(raw))))])
        told.add(LmdbDriver().identity_of(path))
    assert told == {IDENTITY, None}


def test_what_is_no_file_says_of_nobody_that_it_is_his(tmp_path: Path, path: Path) -> None:
    LmdbDriver().create(path, IDENTITY)
    other = tmp_path / "other" / "env"
    other.mkdir(parents=True)
    (other / "data.mdb").symlink_to(data(path))
    assert LmdbDriver().identity_of(other.parent) is None
    (other / "data.mdb").unlink()
    os.mkfifo(other / "data.mdb")
    assert LmdbDriver().identity_of(other.parent) is None
    (tmp_path / "foreign").mkdir()
    raw_lmdb.put(tmp_path / "foreign", b"a", b"1", create=True)
    assert LmdbDriver().identity_of(tmp_path / "foreign") is None
