"""What `status` and `domain show` say of a domain in trouble, and that the command they name helps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Runner

import grafctl.client as client
from grafctl.results import Shown
from grafctl.store import files


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    client.create(directory, {"a": None, "b": None, "c": None})
    with client.open(directory) as opened:
        opened.queues.create("q", replicas=["ra=a", "rb=b", "rc=c"], allow=["a", "b", "c"])
        opened.publish("q", "one", domain="a")
    return directory


def told(shown: Shown, domain: str) -> dict[str, object]:
    return next(item for item in shown.body["domains"] if item["domain"] == domain)


def of(store: Path, domain: str) -> tuple[object, object, object]:
    """Returns state, trouble and remedy of a domain, which `status` and `domain show` agree on."""
    with client.open(store) as opened:
        seen, shown = told(opened.status(), domain), opened.domains.show(domain).body
    assert (seen.get("trouble"), seen.get("remedy")) == (shown.get("trouble"), shown.get("remedy"))
    return seen["state"], seen.get("trouble"), seen.get("remedy")


def test_a_healthy_domain_has_no_trouble(store: Path) -> None:
    assert of(store, "b") == ("available", None, None)


def test_a_drill_is_told_with_its_end(store: Path) -> None:
    with client.open(store) as opened:
        opened.domains.fail("b")
    assert of(store, "b") == ("failed", "failed", "grafctl domain restore b")


def test_damage_and_absence_are_told_apart(store: Path) -> None:
    (store / "domains" / "b" / "env" / "journal").unlink()
    shutil.rmtree(store / "domains" / "c")
    assert of(store, "b") == ("unavailable", "damaged", "grafctl domain repair b")
    assert of(store, "c") == ("unavailable", "away", "grafctl domain show c")


def test_an_old_copy_is_damage(store: Path) -> None:
    place, old = store / "domains" / "b", store / "old"
    shutil.copytree(place, old)
    with client.open(store) as opened:
        for payload in ("two", "three"):
            opened.publish("q", payload, domain="a")
    shutil.rmtree(place)
    old.rename(place)
    assert of(store, "b")[1:] == ("damaged", "grafctl domain repair b")


def test_a_repair_that_was_cut_short_is_told_and_goes_on(store: Path) -> None:
    with files.locked(store):  # what is there when a repair dies after its second step
        file = files.read(store)
        (store / "domains" / "b").rename(store / "domains" / f".b.fenced_{file.domains['b']['incarnation']}")
        files.write(store, file.with_domain("b", file.domains["b"]["path"]))
    assert of(store, "b") == ("unavailable", "repairing", "grafctl domain repair b")
    with client.open(store) as opened:
        findings = [finding for finding in opened.verify() if "was fenced" in finding.problem]
        assert {finding.resource for finding in findings} == {"the control log", "the audit log", "q"}
        assert opened.domains.repair("b").changed
        assert [finding.problem for finding in opened.verify()] == []
    assert of(store, "b") == ("available", None, None)


def test_what_was_moved_aside_is_named_until_it_is_discarded(store: Path) -> None:
    (store / "domains" / "b" / "env" / "journal").unlink()
    with client.open(store) as opened:
        opened.domains.repair("b")
        (aside,) = opened.domains.show("b").body["set_aside"]
        assert any(finding.where == aside and "--discard" in finding.remedy for finding in opened.doctor())
        planned = opened.domains.repair("b", discard=True, dry_run=True)
        assert planned.changed and Path(aside).is_dir()
        assert opened.domains.repair("b", discard=True).actions == [f"delete {aside}"]
        assert not Path(aside).exists() and opened.domains.show("b").body["set_aside"] is None
        assert not opened.domains.repair("b", discard=True).changed


def test_the_table_shows_them_first_and_marked(store: Path, run: Runner) -> None:
    (store / "domains" / "c" / "env" / "journal").unlink()
    lines = [line for line in run("status", store=str(store)).out.splitlines() if line]
    assert lines[1].startswith("DOMAIN") and lines[2].startswith("! c ") and "grafctl domain repair c" in lines[2]
    domains = run("status", "--json", store=str(store)).json["domains"]
    assert [item["domain"] for item in domains] == ["a", "b", "c"], json.dumps(domains)
