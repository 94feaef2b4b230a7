"""Backups: what is in one, what one is never made of, and a store that comes back from one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import Busy, Corrupt, GenerationConflict, GrafctlError, NoQuorum, NotFound, Usage
from grafctl.store import files, keys
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.lmdb import LmdbDriver
from grafctl.store.log import DEADLINE_S, Log
from grafctl.store.observe import Lead
from grafctl.store.operations.backup_file import END, LAST, BackupFile, header, padding
from grafctl.store.records import encode_json, encode_row, parse_json
from grafctl.store.replica.replica import Replica

DOMAINS = ("a", "b", "c", "d")
Members = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything in it: ids, leases, finalised marks, dead letters, a witness, a copy in progress."""
    directory = tmp_path_factory.mktemp("made") / "store"
    client.create(directory, dict.fromkeys(DOMAINS))
    client.keygen("watch", directory)
    with client.open(directory) as store:
        store.authorities.add("watch", public_key=directory / "watch.pub")
        store.health.observe("d", "healthy", authority="watch", key_file=directory / "watch.key")
        store.queues.create("q", replicas=["ra=a", "rb=b", "rc=c:witness"], allow=list(DOMAINS), min_payload=1)
        store.queues.create("other", replicas=["rd=d"], allow=["d"], compression="zstd")
        store.consumers.create("q", "g", allow=["a", "b"], max_deliveries=1)
        for number in range(9):
            store.publish("q", f"record {number}", domain="a", id=f"id-{number}", key="k", headers={"h": "v"})
        store.publish("other", "x" * 3000, domain="d")
        store.poll("q", "g", domain="b", max=6, visibility_ms=3_600_000)
        store.ack("q", "g", [0, 2], domain="b")
        store.nack("q", "g", [4], domain="b")
        store.fence("q", epoch=5)
        store.locator.set("q", generation=2, add=["rd=d:learner"])
    return directory


@pytest.fixture(scope="module")
def backup(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("backup") / "one"
    with client.open(made) as store:
        store.backup(target)
    return target


def told(directory: Path) -> dict[str, Any]:
    """Returns all that a store shows of its queues and groups."""
    with client.open(directory) as store:
        found: dict[str, Any] = {name: store.queues.show(name).body for name in ("q", "other")}
        found["group"] = store.consumers.show("q", "g").body
        found["dead"] = store.dead.list("q", "g").items
        found["records"] = [record.fields() for record in store.peek("q", domain="b").body["records"]]
        found["history"] = store.locator.history("q").items
        found["authorities"] = store.authorities.list().items
        found["health"] = [item["status"] for item in store.health.list().items]
        found["leased"] = [row["leased"] for item in store.status().body["resources"] for row in item["groups"]]
    return found


def rows(directory: Path, resource: str, domain: str) -> dict[bytes, bytes]:
    """Returns every entry and row of a log as it rests in a domain."""
    with client.open(directory) as store:
        log = store.session.resource(resource).id
        with store.session.cluster.environment(domain).read() as view:
            return {key: raw for tag in (0x20, 0x30) for key, raw in view.scan(bytes([tag]) + log, bytes([tag + 1]))}


def test_a_store_comes_back_as_it_was(made: Path, backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    change = client.restore(backup, target)
    assert change.changed and client.restore(backup, target).changed is False
    assert told(target) == told(made)
    with client.open(target) as store, client.open(made) as before:
        assert store.session.cluster.store != before.session.cluster.store
        assert not set(store.session.members().values()) & set(before.session.members().values())
        assert list(store.verify()) == [] and store.audit.verify().body["holds"]
        assert store.audit.tail(1).items[-1]["op"] == "restore"
    for domain in ("a", "b", "c"):
        ours, theirs = rows(target, "q", domain), rows(made, "q", domain)
        (start,) = ours.keys() - theirs.keys()
        assert start[0] == 0x20 and {key: ours[key] for key in theirs} == theirs
    assert not any(key[0] == 0x30 for key in rows(target, "q", "c")), "a witness has no state"


def test_work_goes_on_in_a_restored_store(backup: Path, tmp_path: Path) -> None:
    client.restore(backup, tmp_path / "restored")
    with client.open(tmp_path / "restored") as store:
        again = store.publish("q", "record 7", domain="a", id="id-7", key="k", headers={"h": "v"}, epoch=5)
        assert (again.offset, again.replayed) == (7, True)
        assert store.publish("q", "new", domain="b", epoch=5).offset == 9
        assert [record.offset for record in store.poll("q", "g", domain="b", max=3).records] == [6, 7, 8]
        assert store.ack("q", "g", [0, 1], domain="b").count == 1, "1 was leased, and 0 final"
        store.session.cluster.driver.fail(store.session.cluster.place("b").path)
        assert store.publish("q", "by the witness", domain="a", epoch=5).acked_by == ["a", "c"]
        store.domains.restore("b")
        assert store.catch_up("q", domain="d").match, "a replica that was catching up may do so here"
        assert list(store.verify()) == []


def test_domains_go_where_they_are_sent_and_no_others_are_known(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client.restore(backup, tmp_path / "r", {"e": tmp_path / "e"})
    assert not (tmp_path / "r").exists()
    client.restore(backup, tmp_path / "r", {"b": tmp_path / "elsewhere"})
    with client.open(tmp_path / "r") as store:
        assert store.session.cluster.place("b").path == tmp_path / "elsewhere"
        assert store.session.cluster.place("a").path == tmp_path / "r" / "domains" / "a"


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


# --- files that are no backup any more


def refused(path: Path, target: Path) -> str:
    """Returns the code of the refusal, which reading alone gives; nothing was written."""
    with pytest.raises((Corrupt, Usage)):
        client.restore(path)
    try:
        client.restore(path, target)
    except GrafctlError as error:
        assert error.exit_code in (2, 25), error
        assert not target.exists()
        return error.code
    raise AssertionError(f"{path} was restored")


def test_a_changed_byte_is_noticed_wherever_it_is(backup: Path, tmp_path: Path) -> None:
    raw, rng, broken = backup.read_bytes(), random.Random(4), tmp_path / "broken"
    places = {*range(0, len(raw), 41), *range(600), *range(len(raw) - 2100, len(raw))}
    for at in sorted(places):
        changed = bytearray(raw)
        changed[at] ^= 1 << rng.randrange(8)
        broken.write_bytes(changed)
        code = refused(broken, tmp_path / "none")
        assert code == "corrupt" or at < 1024, "only a name or a format that was changed may look like another file"


def test_a_file_of_another_length_is_noticed(backup: Path, tmp_path: Path) -> None:
    raw, broken = backup.read_bytes(), tmp_path / "broken"
    for size in (0, 1, 99, 100, 511, *range(512, len(raw), 509), len(raw) - 1):
        broken.write_bytes(raw[:size])
        assert refused(broken, tmp_path / "none") == ("usage" if size < 14 else "corrupt"), size
    for more in (b"\0", bytes(512), raw):
        broken.write_bytes(raw + more)
        refused(broken, tmp_path / "none")
    for at in range(0, len(raw), 4096):
        broken.write_bytes(raw[:at] + bytes(len(raw[at : at + 4096])) + raw[at + 4096 :])
        refused(broken, tmp_path / "none")


def members(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return [(item.name, archive.extractfile(item).read()) for item in archive]  # type: ignore[union-attr]


def sealed(path: Path, found: Members) -> Path:
    """Writes members with the right digest over all of them, as somebody could who wants to be believed."""
    whole = b"".join(header(name, len(body)) + body + padding(len(body)) for name, body in found if name != LAST)
    told = hashlib.sha256(whole).hexdigest().encode()
    path.write_bytes(whole + header(LAST, len(told)) + told + padding(len(told)) + END)
    return path


def test_the_seal_of_the_tests_is_the_one_of_the_product(backup: Path, tmp_path: Path) -> None:
    assert sealed(tmp_path / "same", members(backup)).read_bytes() == backup.read_bytes()


def renamed(old: str, new: str) -> Callable[[Members], Members]:
    return lambda found: [(name.replace(old, new), body) for name, body in found]


def without(part: str) -> Callable[[Members], Members]:
    return lambda found: [(name, body) for name, body in found if part not in name]


def rewritten(name: str, **fields: Any) -> Callable[[Members], Members]:
    return lambda found: [
        (item, encode_json({**parse_json(body), **fields}) if item.endswith(name) else body) for item, body in found
    ]


HOSTILE: dict[str, Callable[[Members], Members]] = {
    "a path that leads elsewhere": renamed("entries-1", "../../../../tmp/entries-1"),
    "an absolute path": renamed("0000000000000001/begin", "/etc/passwd"),
    "a log without a beginning": without("0000000000000002/begin"),
    "a log without its entries": without("0000000000000002/entries"),
    "a log without its state": without("0000000000000002/state"),
    "no log but one": lambda found: found[:4] + found[-2:],
    "members in another order": lambda found: [found[0], *reversed(found[1:-2]), *found[-2:]],
    "a member twice": lambda found: [*found[:3], *found[2:]],
    "a floor below zero": rewritten("begin", floor=-1),
    "a floor beyond all": rewritten("begin", floor=1 << 70),
    "a floor that is text": rewritten("begin", floor="0"),
    "another chain before it": rewritten("begin", chain="00" * 31 + "01"),
    "no chain before it": rewritten("begin", chain="zz"),
    "a manifest of nothing": rewritten("manifest.json", logs=[]),
    "a manifest that is a list": lambda found: [(n, b"[]" if n == "manifest.json" else b) for n, b in found],
    "a deep manifest": lambda found: [(n, b"[" * 90_000 if n == "manifest.json" else b) for n, b in found],
    "a domain that is a path": rewritten("manifest.json", domains=["../../tmp"]),
    "a domain that is a number": rewritten("manifest.json", domains=[7]),
    "entries of absurd length": lambda found: [(n, b"\xff" * 8 if "entries" in n else b) for n, b in found],
    "rows of absurd length": lambda found: [(n, b"\xff" * 8 if "state" in n else b) for n, b in found],
    "an entry cut off": lambda found: [(n, b[:-1] if "entries" in n else b) for n, b in found],
    "a later format": rewritten("grafctl-backup", format=2),
    "no format": rewritten("grafctl-backup", format=None),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_sealed_backup_is_not_believed_for_its_seal(backup: Path, tmp_path: Path, what: str) -> None:
    refused(sealed(tmp_path / "hostile", HOSTILE[what](members(backup))), tmp_path / "none")


def test_a_length_beyond_all_is_not_believed(backup: Path, tmp_path: Path) -> None:
    raw = backup.read_bytes()
    for size in (8 << 30) - 1, (128 << 20) + 1, len(raw):
        (tmp_path / "hostile").write_bytes(header("grafctl-backup", size) + raw[512:])
        refused(tmp_path / "hostile", tmp_path / "none")


def test_what_verify_would_find_is_not_left_behind(backup: Path, tmp_path: Path) -> None:
    """The row is one that could be there, with its checksum, and manifest and seal say so: only `verify` can tell."""

    found = members(backup)
    log = next(line["log"] for line in parse_json(dict(found)["manifest.json"])["logs"] if line["name"] == "q")
    name = next(name for name, _ in found if name.startswith(f"{log}/state"))
    check = BackupFile(backup).check().logs[log]
    state, at, body = hashlib.sha256(), 0, dict(found)[name]
    parts, size = [], 0
    while at < len(body):
        key_bytes, value_bytes = struct.unpack_from(">HI", body, at)
        row, raw = body[at + 6 : at + 6 + key_bytes], body[at + 6 + key_bytes : at + 6 + key_bytes + value_bytes]
        at += 6 + key_bytes + value_bytes
        if row == keys.queue():
            raw = encode_row(encode_json({**json.loads(raw[5:]), "next": 12}), keys.state(bytes.fromhex(log), row))
        parts.append(struct.pack(">HI", len(row), len(raw)) + row + raw)
        state.update(struct.pack(">HI", len(row), len(raw) - 5) + row + raw[5:])
        size += len(raw)
    manifest = parse_json(dict(found)["manifest.json"])
    (line,) = (line for line in manifest["logs"] if line["log"] == log)
    line["state_digest"] = state.hexdigest()
    line["bytes"] += sum(map(len, parts)) - len(body)
    assert check.saved().bytes != line["bytes"]
    changed = {name: b"".join(parts), "manifest.json": encode_json(manifest)}
    hostile = sealed(tmp_path / "hostile", [(item, changed.get(item, body)) for item, body in found])
    client.restore(hostile)
    with pytest.raises(Corrupt, match="offsets 9 to 11 are missing"):
        client.restore(hostile, tmp_path / "none")
    assert not (tmp_path / "none").exists()


# --- directories that hold something


def test_a_backup_is_restored_only_where_nothing_is(backup: Path, made: Path, tmp_path: Path) -> None:
    before = (made / files.FILE_NAME).read_bytes()
    with pytest.raises(GenerationConflict):
        client.restore(backup, made)
    assert (made / files.FILE_NAME).read_bytes() == before and not (made / "restore.json").exists()
    (tmp_path / "r" / "domains" / "b").mkdir(parents=True)
    with pytest.raises(GenerationConflict):
        client.restore(backup, tmp_path / "r")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["domains"]
    (tmp_path / "file").touch()
    with pytest.raises(Usage):
        client.restore(backup, tmp_path / "file")


def cut_short(backup: Path, target: Path, point: str) -> None:
    command = [sys.executable, "-m", "grafctl", "restore", str(backup), "--store", str(target)]
    ended = subprocess.run(command, env={**os.environ, "GRAFCTL_KILL_AT": point}, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended


def test_a_restore_that_was_cut_short_is_no_store(backup: Path, made: Path, tmp_path: Path) -> None:
    target = tmp_path / "r"
    cut_short(backup, target, "restore.filled:1")
    with pytest.raises(NotFound):
        client.open(target)
    with pytest.raises(GenerationConflict, match="restore"):
        client.create(target, dict.fromkeys(DOMAINS))
    with client.open(made) as store:
        store.backup(tmp_path / "later")
    client.restore(tmp_path / "later", target)  # another backup may take its place
    with client.open(target) as store:
        assert list(store.verify()) == []
    with pytest.raises(GenerationConflict):
        client.restore(backup, target)


def test_a_record_of_a_stranger_removes_nothing(backup: Path, made: Path, tmp_path: Path) -> None:
    """`restore.json` names environments that bear the identity it says, and not those that this restore would make."""
    with client.open(made) as store:
        cluster = store.session.cluster
        rows = {
            domain: {"path": str(cluster.place(domain).path), "incarnation": cluster.place(domain).incarnation}
            for domain in DOMAINS
        }
        body = {"sha256": "", "store": cluster.store, "domains": rows}
    target = tmp_path / "r"
    target.mkdir()
    (target / "restore.json").write_text(json.dumps(body))
    with pytest.raises(GenerationConflict):
        client.restore(backup, target)
    with client.open(made) as store:
        assert list(store.verify()) == []
    for text in ("", "[]", "{}", '{"domains":{"a":7}}', "\0"):
        (target / "restore.json").write_text(text)
        with pytest.raises(Usage):
            client.restore(backup, target)


def test_a_place_that_was_taken_meanwhile_is_left_alone(backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "r"
    cut_short(backup, target, "restore.created:1")
    driver = LmdbDriver()
    driver.destroy(target / "domains" / "a")
    (target / "domains" / "a").mkdir()
    (target / "domains" / "a" / "mine").touch()
    with pytest.raises(GenerationConflict):
        client.restore(backup, target)
    assert (target / "domains" / "a" / "mine").exists()


# --- what a killed restore left is known by the identity it bears, and by nothing else


def drill(place: Path) -> None:
    LmdbDriver().fail(place)


def mark(place: Path) -> None:
    (place / "env" / "DAMAGED").write_text('{"what": "a page is wrong", "when_ms": 1, "incarnation": "inc_"}')


def lose_the_journal(place: Path) -> None:
    (place / "env" / "journal").unlink()


def lose_the_locks(place: Path) -> None:
    (place / "writer.lock").unlink()
    (place / "env" / "lock.mdb").unlink()


def as_it_is(place: Path) -> None:
    pass


STATES = [as_it_is, drill, mark, lose_the_journal, lose_the_locks]


@pytest.mark.parametrize("state", STATES)
def test_a_restore_takes_its_own_leftovers_away_in_whatever_state(
    backup: Path, tmp_path: Path, state: Callable[[Path], None]
) -> None:
    target = tmp_path / "r"
    cut_short(backup, target, "restore.finished:1")
    state(target / "domains" / "a")
    (target / "domains" / ".a.new_half").mkdir()
    client.restore(backup, target)
    assert sorted(path.name for path in (target / "domains").iterdir()) == list(DOMAINS)
    with client.open(target) as store:
        assert list(store.verify()) == []


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("whose", ["another store", "another life of the domain", "another domain"])
def test_a_restore_never_takes_away_what_bears_another_identity(
    backup: Path, made: Path, tmp_path: Path, whose: str, state: Callable[[Path], None]
) -> None:
    target = tmp_path / "r"
    cut_short(backup, target, "restore.created:1")
    place, body = target / "domains" / "a", json.loads((target / "restore.json").read_text())
    LmdbDriver().destroy(place)
    if whose == "another store":
        shutil.copytree(made / "domains" / "a", place)
    else:
        row = body["domains"]["a"]
        name, life = ("b", row["incarnation"]) if whose == "another domain" else ("a", "inc_other")
        LmdbDriver().create(place, Identity(body["store"], name, life))
    state(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(GenerationConflict, match="not what an earlier restore has left"):
        client.restore(backup, target)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    shutil.rmtree(place)
    client.restore(backup, target)  # as the hint says


def test_a_restore_leaves_what_a_repair_has_set_aside(backup: Path, made: Path, tmp_path: Path) -> None:
    target = tmp_path / "r"
    cut_short(backup, target, "restore.created:1")
    aside = target / "domains" / ".a.fenced_inc_old"
    shutil.copytree(made / "domains" / "a", aside)
    client.restore(backup, target)
    assert (aside / "env" / "data.mdb").exists()
