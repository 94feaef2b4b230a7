"""`validate --live`: every way in which a store can be other than what a pipeline's file relies on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from grafctl import client
from grafctl.nouns.declared import apply_file
from grafctl.pipeline import declaring, planning
from grafctl.pipeline.live import differences
from grafctl.results import Finding
from pipeline.declared import GOOD

APART = (
    GOOD.replace('log = "main"', 'replicas = { a = "aws/a", g = "gcp" }')
    .replace(
        '[[log]]\nname = "main"\nreplicas = { a = "aws/a", g = "gcp", z = "azure:witness" }\nmin_payload = 1\n', ""
    )
    .replace('[[idem]]\nname = "seen"\nreplicas = { a = "aws/a", g = "gcp" }\nallow = ["aws", "gcp"]\n', "")
    .replace('effects = "seen"\n', "")
    .replace('filter = "key:acme/"\n', "")
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "flow.toml"
    file.write_text(APART)
    apply_file(tmp_path / "store", file)
    return file


@pytest.fixture
def store(file: Path) -> Iterator[client.Store]:
    with client.open(file.parent / "store") as opened:
        yield opened


def found(store: client.Store, file: Path) -> list[Finding]:
    before = store.audit.tail(1000)
    findings = list(differences(store, declaring.examine_file(file)))
    assert store.audit.tail(1000) == before
    return findings


def observe(store: client.Store, file: Path, domain: str, status: str) -> None:
    client.keygen("s", file.parent)
    store.authorities.add("s", file.parent / "s.pub")
    store.health.observe(domain, status, authority="s", key_file=file.parent / "s.key")


def line_of(stage: str) -> int:
    return APART[: APART.index(f'name = "{stage}"\nkind')].count("\n")


def test_a_store_as_it_was_applied_has_no_difference(store: client.Store, file: Path) -> None:
    assert not found(store, file)


def test_what_is_missing_is_told_with_its_line(tmp_path: Path) -> None:
    client.create(tmp_path / "store", {"aws/a": None, "gcp": None})
    file = tmp_path / "flow.toml"
    file.write_text(APART)
    with client.open(tmp_path / "store") as store:
        findings = found(store, file)
    problems = {finding.problem: finding for finding in findings}
    assert {"domain azure is missing.", "queue raw is missing.", "group tidy of raw is missing."} <= problems.keys()
    assert problems["group tidy of raw is missing."].where == f"{file}:{line_of('tidy')}"
    assert {finding.remedy for finding in findings} == {f"grafctl apply {file}"}


def test_a_group_that_was_placed_elsewhere(store: client.Store, file: Path) -> None:
    store.placement.set("raw", group="tidy", allow=["aws"])
    (changed, refused) = found(store, file)
    assert "group tidy of raw has placement allow aws" in changed.problem
    assert APART.split("\n")[int(changed.where.rpartition(":")[2]) - 1] == 'allow = ["aws", "gcp"]'
    assert changed.remedy.startswith("grafctl placement set raw --group tidy --allow aws --allow gcp --expect pl_")
    assert "may not poll raw in gcp: not_in_placement" in refused.problem and refused.domain == "gcp"
    assert refused.remedy == "grafctl placement show raw --group tidy"
    assert refused.where == f"{file}:{line_of('tidy')}"


def test_an_output_that_was_closed(store: client.Store, file: Path) -> None:
    store.placement.set("clean", allow=["aws"])
    problems = [finding.problem for finding in found(store, file)]
    assert any("Stage 'tidy' may not publish clean in gcp: not_in_placement" in problem for problem in problems)


def test_an_input_that_has_moved_away(store: client.Store, file: Path) -> None:
    observe(store, file, "azure", "healthy")
    store.locator.set("raw", generation=2, add=["z=azure"])
    store.publish("raw", b"{}", domain="gcp")
    store.catch_up("raw", domain="azure")
    store.locator.set("raw", generation=3, remove=["g"])
    (changed, refused) = found(store, file)
    assert "queue raw has replicas" in changed.problem
    assert "Stage 'tidy' may not poll raw in gcp: not_in_locator" in refused.problem
    assert refused.remedy == "grafctl locator show raw"


def test_domains_in_trouble(store: client.Store, file: Path) -> None:
    observe(store, file, "gcp", "unhealthy")
    (unhealthy,) = found(store, file)
    assert (unhealthy.where, unhealthy.problem) == ("gcp", "The domain was observed as unhealthy.")
    store.domains.fail("azure")
    assert [finding.where for finding in found(store, file)] == ["azure", "gcp"]
    assert found(store, file)[0].remedy == "grafctl domain restore azure"


def test_the_example_has_no_difference_once_it_is_applied(tmp_path: Path) -> None:
    example = ROOT / "examples" / "pipeline.toml"
    examined = declaring.examine_file(example)
    would = planning.plan(examined, None, tmp_path / "store").body
    assert "create the group load of clean-orders" in would["to_apply"]
    apply_file(tmp_path / "store", example)
    assert planning.plan(examined, None, tmp_path / "store").body["to_apply"] == []
    with client.open(tmp_path / "store") as store:
        assert not found(store, example)
