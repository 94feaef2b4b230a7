"""A store that comes back from a backup: as it was, whole or not at all, and only where nothing is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafctl import client
from grafctl.errors import GenerationConflict, NotFound, Usage
from grafctl.store import files
from grafctl.store.driver.contract import Identity
from grafctl.store.driver.lmdb import LmdbDriver
from store.backup.conftest import DOMAINS


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
