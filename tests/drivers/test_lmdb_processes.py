"""LMDB files in several processes at once: death, stopped holders, drills, signals and forks, all of them real."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from drivers.children import child, ended, hear
from drivers.contract import IDENTITY, get, put
from grafctl.errors import Unreachable
from grafctl.store.driver.journal import JOURNAL_BYTES
from grafctl.store.driver.lmdb import LmdbDriver, LmdbEnvironment

HOLD = """
with env().write(wait_s=10) as batch:
    batch.put(b"held", b"1")
    say("in")
    time.sleep(60)
"""


def test_a_killed_holder_is_no_holder(env: LmdbEnvironment, path: Path) -> None:
    with child(HOLD, path) as process:
        hear(process, "in")
        with pytest.raises(Unreachable, match="locked"):
            put(env, b"a", b"1", 0.02)
        process.kill()
        process.wait()
        put(env, b"a", b"1", 0)
    assert (get(env, b"a"), get(env, b"held")) == (b"1", None)


def test_a_stopped_holder_makes_writers_meet_their_deadline(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    with child(HOLD, path) as process:
        hear(process, "in")
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(Unreachable, match="locked"):
            put(env, b"a", b"2", 0.05)
        assert get(env, b"a") == b"1"
    put(env, b"a", b"3")


@pytest.mark.parametrize(("point", "found"), [("driver.commit.before", None), ("driver.commit.after", b"1")])
def test_a_kill_at_the_commit_leaves_all_or_nothing(
    env: LmdbEnvironment, path: Path, point: str, found: bytes | None
) -> None:
    code = 'put(env(), b"first", b"1"); put(env(), b"a", b"1")'
    assert ended(code, path, {"GRAFCTL_KILL_AT": f"{point}:2"})[0] == -signal.SIGKILL
    assert (get(env, b"first"), get(env, b"a")) == (b"1", found)
    put(env, b"b", b"2", 0)
    assert (get(env, b"first"), get(env, b"a"), get(env, b"b")) == (b"1", found, b"2")


def test_a_process_can_be_stopped_at_a_point(env: LmdbEnvironment, path: Path) -> None:
    stop = {"GRAFCTL_STOP_AT": "driver.commit.before:1"}
    with child('put(env(), b"a", b"1"); say("done")', path, stop) as process:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        with pytest.raises(Unreachable, match="locked"):
            put(env, b"b", b"1", 0)
        process.send_signal(signal.SIGCONT)
        hear(process, "done")
    assert get(env, b"a") == b"1"


def test_a_drill_of_another_process_is_seen_at_once(env: LmdbEnvironment, path: Path) -> None:
    put(env, b"a", b"1")
    with child('LmdbDriver().fail(path); say("failed"); sys.stdin.read()', path) as process:
        hear(process, "failed")
        with pytest.raises(Unreachable, match="drill"):
            get(env, b"a")
        with pytest.raises(Unreachable, match="drill"):
            put(env, b"a", b"2")
    LmdbDriver().restore(path)
    assert get(env, b"a") == b"1"


def test_sigint_is_delivered_after_the_outcome(env: LmdbEnvironment, path: Path) -> None:
    code = """
try:
    with env().write(wait_s=1) as batch:
        say("in")
        before = time.monotonic()
        while time.monotonic() < before + 0.2:
            pass
        batch.put(b"a", b"1")
        say("put")
except KeyboardInterrupt:
    say("interrupted")
"""
    with child(code, path) as process:
        hear(process, "in")
        process.send_signal(signal.SIGINT)
        hear(process, "put")
        hear(process, "interrupted")
    assert get(env, b"a") == b"1"


def test_waiting_for_the_lock_can_be_interrupted(env: LmdbEnvironment, path: Path) -> None:
    code = """
e = env()
get(e, b"a")
say("waiting")
try:
    put(e, b"b", b"2", 600)
except KeyboardInterrupt:
    say("interrupted")
"""
    with env.write(wait_s=1) as batch, child(code, path) as process:
        hear(process, "waiting")
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        hear(process, "interrupted")
        batch.put(b"a", b"1")
    assert (get(env, b"a"), get(env, b"b")) == (b"1", None)


def test_a_fork_may_not_use_what_it_inherited(env: LmdbEnvironment, path: Path) -> None:
    code = """
e = env()
put(e, b"a", b"1")
def attempt(use):
    try:
        use()
    except AssertionError:
        return 1
    return 0
block = e.write(wait_s=1)
block.__enter__().put(b"b", b"2")
child = os.fork()
if child == 0:
    uses = (lambda: get(e, b"a"), lambda: put(e, b"a", b"2", 0), lambda: get(env(), b"a"),
            lambda: block.__exit__(None, None, None))
    os._exit(sum(map(attempt, uses)))
say(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
block.__exit__(None, None, None)
"""
    assert ended(code, path) == (0, "4")
    assert (get(env, b"a"), get(env, b"b")) == (b"1", b"2")


@pytest.mark.parametrize("journal_size", [1024, 4096, JOURNAL_BYTES])
def test_processes_do_not_lose_each_others_updates(path: Path, journal_size: int) -> None:
    LmdbDriver().destroy(path)
    LmdbDriver(journal_size=journal_size).create(path, IDENTITY)
    env = LmdbDriver().open(path, IDENTITY)
    code = """
e = env()
for _ in range(40):
    with e.write(wait_s=60) as batch:
        batch.put(b"n", b"%d" % (int(batch.get(b"n") or b"0") + 1))
"""
    with child(code, path) as one, child(code, path) as two:
        assert (one.wait(60), two.wait(60)) == (0, 0)
    assert get(env, b"n") == b"80"
    env.close()
