"""What is in a backup, and what one is never made of: a store in trouble, and one that is written meanwhile."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl import client
from grafctl.errors import Busy, Corrupt, GenerationConflict, NoQuorum, Usage
from grafctl.store import keys
from grafctl.store.log import DEADLINE_S, Log
from grafctl.store.observe import Lead
from grafctl.store.operations.backup_file import LAST, BackupFile
from grafctl.store.replica.replica import Replica


def test_a_backup_is_a_private_tar_file_of_a_name_of_its_own(made: Path, tmp_path: Path) -> None:
    with client.open(made) as store:
        first, second = (Path(store.backup(tmp_path).file) for _ in range(2))
        with pytest.raises(GenerationConflict):
            store.backup(first)
        with pytest.raises(Usage):
            store.backup(tmp_path / "absent" / "file")
        dry = store.backup(tmp_path, dry_run=True)
    assert dry.actions and not dry.changed
    assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    with tarfile.open(first) as archive:
        names = archive.getnames()
        assert names[0] == "grafctl-backup" and names[-1] == LAST
        file = archive.extractfile(LAST)
        assert file is not None and file.read().decode() == client.restore(first).after["backup"]  # type: ignore[index]


# --- what is taken from a store in trouble


@pytest.fixture
def three(tmp_path: Path) -> Iterator[client.Store]:
    directory = tmp_path / "three"
    client.create(directory, dict.fromkeys("abcde"))
    with client.open(directory) as store:
        store.queues.create("q", replicas=["ra=a", "rb=b", "rc=c"], allow=list("abc"))
        store.publish("q", "first", domain="a")
        yield store


def fail(store: client.Store, domain: str, *, is_failed: bool = True) -> None:
    driver = store.session.cluster.driver
    (driver.fail if is_failed else driver.restore)(store.session.cluster.place(domain).path)


def saved(path: Path, name: str = "q") -> int:
    """Returns how many records of a queue are in a backup."""
    backup = BackupFile(path)
    pieces = list(backup.pieces())
    assert backup.manifest is not None
    log = next(bytes.fromhex(line["log"]) for line in backup.manifest.body["logs"] if line["name"] == name)
    (queue,) = (raw for piece in pieces if piece.log.log == log for row, raw in piece.rows if row == keys.queue())
    return int(json.loads(queue[5:])["next"])


def test_a_record_that_the_others_have_not_counted_is_saved(three: client.Store, tmp_path: Path) -> None:
    """b lacks the second record; without c nobody can tell from what is there that it was acknowledged."""
    fail(three, "b")
    assert three.publish("q", "second", domain="a").acked_by == ["a", "c"]
    fail(three, "b", is_failed=False)
    fail(three, "c")
    done = three.backup(tmp_path / "one")
    assert saved(tmp_path / "one") == 2
    assert done.away is not None and list(done.away) == ["c"]
    client.restore(tmp_path / "one", tmp_path / "restored")
    with client.open(tmp_path / "restored") as store:
        assert [record.payload for record in store.peek("q", domain="c").body["records"]] == [b"first", b"second"]


def test_what_was_settled_with_other_voters_is_not_missed(
    three: client.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is settled with a and c; when it is read, c is away, and b is back that lacks the second record."""
    fail(three, "b")
    three.publish("q", "second", domain="a")
    settle, queue = Log.settle, three.session.resource("q").id
    is_done = False

    def and_then(log: Log, *, deadline_s: float = DEADLINE_S) -> Lead:
        nonlocal is_done
        lead = settle(log, deadline_s=deadline_s)
        if log.id == queue and not is_done:
            is_done = True
            fail(three, "b", is_failed=False)
            fail(three, "c")
        return lead

    monkeypatch.setattr(Log, "settle", and_then)
    three.backup(tmp_path / "one")
    assert is_done and saved(tmp_path / "one") == 2


def test_where_nobody_knows_what_was_acknowledged_there_is_no_backup(three: client.Store, tmp_path: Path) -> None:
    fail(three, "b")
    fail(three, "c")
    with pytest.raises(NoQuorum):
        three.backup(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["three"]


def spoil(store: client.Store, domain: str) -> None:
    """Changes a byte of a record where it rests."""
    log = store.session.resource("q").id
    with store.session.cluster.environment(domain).write(wait_s=5) as batch:
        raw = bytearray(Replica(batch, log, domain).raw_entry(1))
        raw[-1] ^= 1
        batch.put(keys.entry(log, 1), bytes(raw))


def test_what_one_domain_holds_wrongly_is_read_from_another(three: client.Store, tmp_path: Path) -> None:
    spoil(three, "a")
    (line,) = (line for line in three.backup(tmp_path / "one").logs or () if line["name"] == "q")
    assert line["domain"] == "b"
    client.restore(tmp_path / "one", tmp_path / "restored")
    spoil(three, "b")
    spoil(three, "c")
    with pytest.raises(Corrupt):
        three.backup(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "restored", "three"]


def test_one_backup_at_a_time_in_one_place(made: Path, tmp_path: Path) -> None:
    import fcntl

    with client.open(made) as store:
        partial = tmp_path / f".{store.session.cluster.store}.partial"
        partial.write_bytes(b"left by one that was killed")
        store.backup(tmp_path / "one")
        assert not partial.exists()
        with partial.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(Busy):
                store.backup(tmp_path / "two")
        assert not (tmp_path / "two").exists()


# --- a store that is written meanwhile


def test_snapshots_of_several_moments_are_taken_again(tmp_path: Path) -> None:
    """`after` names what `before` held first; a backup of one moment never has the one without the other."""
    directory = tmp_path / "store"
    client.create(directory, dict.fromkeys("ab"))
    with client.open(directory) as store:
        store.queues.create("before", replicas=["ra=a"], allow=["a"])
        store.queues.create("after", replicas=["rb=b"], allow=["b"])
        command = [sys.executable, "-m", "grafctl", "backup", str(tmp_path / "one"), "-s", str(directory)]
        child = subprocess.Popen(command, env={**os.environ, "GRAFCTL_STOP_AT": "snapshots.opened:1"})
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it has opened a and not yet b"
        store.publish("before", "x", domain="a")
        store.publish("after", "x", domain="b")
        os.kill(child.pid, signal.SIGCONT)
        assert child.wait() == 0
    backup = BackupFile(tmp_path / "one")
    assert backup.check().body["one_moment"] is True
    assert (saved(tmp_path / "one", "before"), saved(tmp_path / "one", "after")) == (1, 1)


WRITER = """
import sys
from grafctl import client
with client.open(sys.argv[1]) as store:
    for number in range(100_000):
        store.publish("q", "x", domain="a", id=f"{number}")
        store.publish("other", "x", domain="a", id=f"{number}")
        print(number, flush=True)
"""


def test_a_writer_goes_on_and_what_it_was_told_is_saved(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    client.create(directory, dict.fromkeys("abc"))
    with client.open(directory) as store:
        for name in ("q", "other"):
            store.queues.create(name, replicas=["ra=a", "rb=b", "rc=c"], allow=["a"])
        with subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            try:
                for number in range(6):
                    told = int(child.stdout.readline())
                    while told < 10 * (number + 1):
                        told = int(child.stdout.readline())
                    target = tmp_path / f"{number}"
                    done = store.backup(target)
                    first, second = saved(target, "q"), saved(target, "other")
                    assert first > told and second > told
                    assert not done.one_moment or first - second in (0, 1)
                    assert int(child.stdout.readline()) > told, "the writer still writes"
            finally:
                child.kill()
    client.restore(target, tmp_path / "restored")
    with client.open(tmp_path / "restored") as store:
        assert store.publish("q", "x", domain="a", id="7").replayed and list(store.verify()) == []
