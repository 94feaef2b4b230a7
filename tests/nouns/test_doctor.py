"""`doctor`: silent where all is well, and a finding with a command for each thing that is not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client, clock
from grafctl.nouns import doctor, file_systems
from grafctl.nouns.file_systems import Mount
from grafctl.results import Finding
from grafctl.store import files

OLD_S = 1_700_000_000


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing to find, so that each test breaks one thing; the real one is looked at in one test."""
    monkeypatch.setattr(doctor, "_limits", dict)
    monkeypatch.setattr(doctor, "mounts", lambda: [Mount("/", "ext4")])
    monkeypatch.setattr(doctor, "_free_bytes", lambda path: 1 << 40)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[client.Store]:
    client.create(tmp_path / "store", {"aws": None, "gcp": None, "azure": None})
    client.keygen("s", tmp_path)
    with client.open(tmp_path / "store") as opened:
        opened.authorities.add("s", tmp_path / "s.pub")
        opened.queues.create("orders", replicas=["a=aws", "g=gcp"], allow=["aws"])
        opened.consumers.create("orders", "workers", allow=["gcp"])
        yield opened


def found(store: client.Store) -> list[Finding]:
    """Returns the findings but for the advice that every store on one disk gets."""
    every = list(store.doctor())
    for finding in every:
        assert re.search(r"`[a-z]|newer Python|ELSEWHERE", finding.remedy), finding
        assert finding.remedy.endswith(".") and not finding.problem.endswith("."), finding
    return [finding for finding in every if "on one disk" not in finding.problem]


def only(store: client.Store) -> Finding:
    (finding,) = found(store)
    return finding


def aged(path: Path) -> Path:
    os.utime(path, (OLD_S, OLD_S))
    return path


def test_a_healthy_store_has_one_piece_of_advice(store: client.Store) -> None:
    (finding,) = store.doctor()
    assert "aws, gcp, azure are on one disk" in finding.problem
    assert "grafctl domain add" in finding.remedy
    assert store.publish("orders", "x", domain="aws").offset == 0


def test_doctor_writes_nothing(store: client.Store, tmp_path: Path) -> None:
    def state() -> dict[str, bytes]:
        places = (tmp_path / "store").rglob("*")
        return {str(path): path.read_bytes() for path in places if path.is_file() and path.name != "lock.mdb"}

    before = state()
    list(store.doctor())
    assert state() == before


def test_the_real_machine_is_looked_at(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for finding in store.doctor():
        assert finding.where and finding.problem and finding.remedy


# --- domains


def test_a_drill_is_found(store: client.Store) -> None:
    store.domains.fail("azure")
    finding = only(store)
    assert (finding.where, finding.domain) == ("azure", "azure")
    assert finding.remedy == "Run `grafctl domain restore azure`."


def test_a_store_without_a_quorum_is_examined_all_the_same(store: client.Store) -> None:
    for domain in ("aws", "gcp", "azure"):
        store.domains.fail(domain)
    *drills, last = found(store)
    assert [finding.where for finding in drills] == ["aws", "gcp", "azure"]
    assert "it cannot be read" in last.problem


def test_a_missing_and_a_foreign_environment(store: client.Store, tmp_path: Path) -> None:
    directory = tmp_path / "store"
    store.close()
    (directory / "domains" / "azure").rename(directory / "domains" / "lost")
    with client.open(directory) as again:
        lost, azure = found(again)
    assert lost.where == str(directory / "domains" / "lost") and "no domain of store.toml" in lost.problem
    assert azure.where == "azure" and "missing" in azure.problem
    (directory / "domains" / "lost").rename(directory / "domains" / "azure")
    file = files.read(directory)
    files.write(directory, file.without_domain("azure").with_domain("azure", "domains/azure"))
    with client.open(directory) as again:
        assert any(finding.where == "azure" and "incarnation" in finding.problem for finding in found(again))


def test_a_domain_that_was_added_by_half(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from grafctl.nouns.domains import Domains

    with monkeypatch.context() as dying:
        dying.setattr(Domains, "_join", lambda self, log_id, name: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.domains.add("oracle")
    with client.open(store.session.cluster.directory) as again:
        halves = found(again)
    assert [finding.where for finding in halves] == ["oracle"]
    assert "grafctl domain add oracle" in halves[0].remedy


def test_a_wrong_page_is_found(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from grafctl.store.driver import lmdb

    monkeypatch.setattr(lmdb, "structural_findings", lambda path: ["page 7: bad"] if path.name == "gcp" else [])
    finding = only(store)
    assert finding.where == "gcp" and "page 7: bad" in finding.problem
    monkeypatch.setattr(doctor, "WALK_BYTES_MAX", 100)
    assert not found(store)


def test_a_domain_that_is_being_written_is_not_walked(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    store.session.cluster.lock_wait_s = 0.01
    begun, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with store.session.cluster.environment("gcp").write(wait_s=1):
            begun.set()
            go_on.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(10)
        assert not found(store)
    finally:
        go_on.set()
        thread.join()


# --- files


def test_leftovers_are_found_when_they_are_old(store: client.Store, tmp_path: Path) -> None:
    directory = tmp_path / "store"
    new = directory / "store.toml.new"
    new.write_text("")
    made, gone = directory / "domains" / ".aws.new_1", directory / "domains" / ".gcp.gone_2"
    made.mkdir()
    gone.mkdir()
    assert not found(store)
    for path in (new, made, gone):
        aged(path)
    assert [finding.where for finding in found(store)] == [str(new), str(made), str(gone)]
    assert f"rm -r {new}" in found(store)[0].remedy


def test_audit_records_that_wait_are_found(store: client.Store, tmp_path: Path) -> None:
    directory = tmp_path / "store"
    (directory / "audit.spool").write_text("{}\n{}\n")
    aged(directory / "audit.spool")
    assert only(store).problem.startswith("2 audit records wait here")
    taken = (directory / "audit.spool").rename(directory / "audit.spool.1f")
    assert only(store).where == str(taken)
    os.utime(taken)
    assert str(taken) not in {finding.where for finding in found(store)}, "somebody is appending it"


def test_directories_that_others_may_write_are_found(store: client.Store, tmp_path: Path) -> None:
    (tmp_path / "store").chmod(0o777)
    (tmp_path / "store" / "domains" / "gcp").chmod(0o757)
    findings = found(store)
    assert [finding.where for finding in findings] == [str(tmp_path / "store"), str(tmp_path / "store/domains/gcp")]
    assert "chmod o-w" in findings[0].remedy


def test_a_directory_that_nobody_may_enter(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = ("FAILED", "DAMAGED")
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK and not os.fsdecode(path).endswith(marks))
    findings = found(store)
    assert len(findings) == 4 and all("you may not write here" in finding.problem for finding in findings)


def test_a_process_that_never_ends_its_snapshot_is_found(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "READER_COMMITS_MAX", 4)
    with store.session.cluster.environment("gcp").read():
        assert not found(store)
        for payload in "abcdefgh":
            store.publish("orders", payload * 70_000, domain="aws")  # too large for the journal
        finding = only(store)
    assert finding.where == "gcp" and f"process {os.getpid()} still reads" in finding.problem
    assert not found(store)


# --- disks


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "virtiofs"])
def test_network_file_systems_are_found(
    store: client.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = tmp_path / "store" / "domains" / "gcp"
    monkeypatch.setattr(doctor, "mounts", lambda: [Mount("/", "ext4"), Mount(str(place), kind)])
    finding = only(store)
    assert finding.domain == "gcp" and f"network file system ({kind})" in finding.problem
    assert "grafctl domain add gcp --path" in finding.remedy


def test_a_file_system_in_memory_is_found(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "mounts", lambda: [Mount("/", "tmpfs")])
    assert ["in memory (tmpfs)" in finding.problem for finding in found(store)] == [True] * 3


def test_a_disk_that_is_nearly_full_is_found_once(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_free_bytes", lambda path: 100 << 20)
    assert "100 MiB left" in only(store).problem


def test_without_a_list_of_mounts_nothing_is_said(store: client.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "mounts", list)
    assert not found(store)


MOUNTINFO = r"""22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:22 / /mnt/a\040b rw - nfs4 host:/x rw
24 22 0:23 / /data rw shared:2 master:3 - xfs /dev/sdb rw
25 24 0:24 / /data/deep rw - fuse.sshfs host: rw
26 22 0:25 / /data rw - tmpfs tmpfs rw
27 22 0:26 / /mnt/€ rw - cifs //host rw
garbage

1 2 3 - x
"""
MOUNT = """/dev/disk1s1 on / (apfs, sealed, local, read-only, journaled)
//me@host/share on /Volumes/my (old) share (smbfs, nodev, nosuid)
map auto_home on /System/Volumes/Data/home (autofs, automounted)
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/mnt/a b/store", "nfs4"),
        ("/mnt/a bc", "ext4"),
        ("/data", "tmpfs"),
        ("/data/x", "tmpfs"),
        ("/data/deep/x", "fuse.sshfs"),
        ("/mnt/€/x", "cifs"),
    ],
)
def test_the_mount_of_a_path(path: str, kind: str) -> None:
    mounts = file_systems.parse_mountinfo(MOUNTINFO.replace("€", "\u20ac"))
    assert file_systems.file_system_of(Path(path), mounts) == kind


def test_the_mounts_of_a_mac() -> None:
    mounts = file_systems.parse_mount(MOUNT)
    assert file_systems.file_system_of(Path("/Volumes/my (old) share/x"), mounts) == "smbfs"
    assert file_systems.file_system_of(Path("/Users/x"), mounts) == "apfs"
    assert file_systems.file_system_of(Path("/x"), []) is None


def test_a_link_is_followed_to_its_file_system(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    mounts = [Mount("/", "ext4"), Mount(os.path.realpath(tmp_path / "there"), "nfs")]
    assert file_systems.file_system_of(tmp_path / "link" / "x", mounts) == "nfs"


# --- limits, versions, clock


@pytest.mark.parametrize(
    ("limits", "remedy"),
    [
        ({"descriptors": 64}, "ulimit -n 256"),
        ({"file": 1 << 30}, "ulimit -f unlimited"),
        ({"memory": 1 << 30}, "ulimit -v unlimited"),
    ],
)
def test_limits_are_found(
    store: client.Store, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], remedy: str
) -> None:
    monkeypatch.setattr(doctor, "_limits", lambda: limits)
    assert remedy in only(store).remedy


def test_limits_that_suffice_are_not() -> None:
    assert not list(doctor.limit_findings({"descriptors": 1024}, 3))
    assert "ulimit -n 1664" in next(doctor.limit_findings({"descriptors": 1024}, 200)).remedy


@pytest.mark.parametrize(
    ("python", "lmdb", "count"),
    [((3, 11), (3, 0, 0), 0), ((3, 14), (4, 1), 0), ((3, 11), (2, 9), 1), ((3, 10), (3, 0), 1), ((3, 11), (), 1)],
)
def test_versions(python: tuple[int, ...], lmdb: tuple[int, ...], count: int) -> None:
    assert len(list(doctor.version_findings(python, lmdb))) == count


def test_a_clock_that_went_back_is_found(store: client.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.health.observe("azure", "healthy", authority="s", key_file=tmp_path / "s.key")
    monkeypatch.setenv(clock.OFFSET_VARIABLE, "-3600000")
    the_clock, azure = found(store)
    assert the_clock.where == "the clock" and "3600 s behind" in the_clock.problem
    assert azure.where == "azure" and "in the future" in azure.problem


def test_a_clock_from_before_grafctl() -> None:
    (finding,) = doctor.clock_findings(1000, {"the control log": 0})
    assert "timedatectl" in finding.remedy
    now_ms = clock.now_ms()
    assert not list(doctor.clock_findings(now_ms, {"the control log": now_ms + 1000}))


# --- set-up


def test_an_unhealthy_domain_is_found(store: client.Store, tmp_path: Path) -> None:
    store.health.observe("azure", "unhealthy", authority="s", key_file=tmp_path / "s.key")
    finding = only(store)
    assert finding.domain == "azure" and "s observed it as unhealthy" in finding.problem
    assert "grafctl health observe azure healthy" in finding.remedy


def test_a_queue_that_nobody_may_use_is_found(store: client.Store) -> None:
    replicas: dict[str, Any] = {"replicas": ["a=aws"]}
    store.queues.create("closed", **replicas)
    store.consumers.create("orders", "nowhere", allow=["azure"])
    closed, nowhere = found(store)
    assert (closed.resource, nowhere.resource) == ("closed", "orders")
    assert "grafctl placement set closed --allow" in closed.remedy
    assert "group nowhere may poll nowhere" in nowhere.problem
