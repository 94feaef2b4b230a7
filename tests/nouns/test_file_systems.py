"""`init` and `domain add` keep domains off file systems that another machine may be writing to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grafctl import client
from grafctl.errors import Usage
from grafctl.nouns import file_systems

Mounted = Callable[[Path, str], None]


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Makes the kernel's list of mounts say that one more file system is at a path."""
    listed = tmp_path / "mountinfo"
    listed.write_text("22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(file_systems, "MOUNTINFO", listed)

    def mount(place: Path, kind: str) -> None:
        place.mkdir(exist_ok=True)
        with listed.open("a") as handle:
            handle.write(f"23 22 0:40 / {place} rw,relatime - {kind} host:/export rw\n")

    return mount


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_init_refuses_a_network_file_system_and_makes_nothing(
    tmp_path: Path, mounted: Mounted, kind: str, dry_run: bool
) -> None:
    mounted(tmp_path / "far", kind)
    for domains in (
        {"aws": None, "gcp": tmp_path / "far" / "gcp"},
        {"aws": tmp_path / "near", "gcp": tmp_path / "far"},
    ):
        with pytest.raises(Usage, match=rf"far\S* is on a network file system \({kind}\)") as refused:
            client.create(tmp_path / "store", domains, dry_run=dry_run)
        assert refused.value.exit_code == 2 and refused.value.fields["domain"] == "gcp"
    with pytest.raises(Usage, match="network file system"):
        client.create(tmp_path / "far" / "store", {"aws": None}, dry_run=dry_run)
    assert not (tmp_path / "store" / "store.toml").exists() and not list((tmp_path / "far").rglob("*.toml"))


@pytest.mark.parametrize("dry_run", [False, True])
def test_domain_add_refuses_a_network_file_system_and_changes_nothing(
    tmp_path: Path, mounted: Mounted, dry_run: bool
) -> None:
    client.create(tmp_path / "store", {"aws": None})
    mounted(tmp_path / "far", "nfs")
    before = (tmp_path / "store" / "store.toml").read_bytes()
    with client.open(tmp_path / "store") as store:
        with pytest.raises(Usage, match="network file system"):
            store.domains.add("gcp", path=tmp_path / "far" / "gcp", dry_run=dry_run)
        assert [item["domain"] for item in store.domains.list().items] == ["aws"]
        assert (tmp_path / "store" / "store.toml").read_bytes() == before
        assert store.domains.add("gcp", path=tmp_path / "near", dry_run=dry_run).changed


def test_a_store_that_is_there_is_left_where_it_is(tmp_path: Path, mounted: Mounted) -> None:
    client.create(tmp_path / "store", {"aws": None, "gcp": None})
    mounted(tmp_path / "store", "nfs")
    assert not client.create(tmp_path / "store", {"aws": None, "gcp": None}).changed
    with client.open(tmp_path / "store") as store:
        assert not store.domains.add("gcp").changed


def test_a_file_system_of_the_host_is_not_refused(tmp_path: Path, mounted: Mounted) -> None:
    mounted(tmp_path / "shared", "virtiofs")
    assert client.create(tmp_path / "shared" / "store", {"aws": None}).changed
