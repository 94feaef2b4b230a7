"""The README does what it says: its tour is typed into a shell, its Python is run, and its links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Runner

README = (ROOT / "README.md").read_text()
TOUR = README.partition("## Five minutes")[2].partition("\n## ")[0]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def script(lines: list[str]) -> str:
    """Returns a shell script that stops where a command does not end as its comment says."""
    out = ["set -ex -o pipefail", f'grafctl() {{ {sys.executable} -m grafctl "$@"; }}']
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        command, _, comment = line.partition("  # ")
        expected = re.match(r"\s*exit (\d+)", comment)
        if line.startswith("#>"):
            continue
        if expected:
            command = f"{command} && rc=0 || rc=$?; [ $rc -eq {expected[1]} ] || exit 99"
        out.append(command)
    return "\n".join(out)


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory in which the tour was typed, and all that it printed."""
    directory = tmp_path_factory.mktemp("tour")
    ended = subprocess.run(
        ["bash", "-c", script(blocks(TOUR, "sh"))],
        cwd=directory,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr
    return directory, ended.stdout


def test_the_tour_prints_what_it_says(toured: tuple[Path, str]) -> None:
    printed = iter(toured[1].splitlines())
    promised = re.findall(r"^#> (.*)$", TOUR, re.MULTILINE)
    assert promised
    for line in promised:
        assert line in printed, f"it does not print, or not at its place: {line}"


def test_the_worker_of_the_tour_finishes_everything(toured: tuple[Path, str]) -> None:
    (source,) = blocks(TOUR, "python")
    directory, _ = toured
    ended = subprocess.run(
        [sys.executable, "-c", source], cwd=directory, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 0, ended.stderr
    offsets = [int(line.split()[0]) for line in ended.stdout.splitlines()]
    assert offsets == list(range(3, 1002)), (
        "offset 2 is leased to the shell, and 0 and 1 were finished before the shift"
    )


@pytest.mark.parametrize("field", ["count", "through", "domain", "generation", "epoch", "match", "target_digest"])
def test_a_proof_that_was_edited_is_refused(toured: tuple[Path, str], field: str) -> None:
    directory, _ = toured
    proof = json.loads((directory / "proof.json").read_text())
    edited = proof | {field: not proof[field] if field == "match" else f"{proof[field]}0"}
    (directory / "edited.json").write_text(json.dumps(edited))
    words = ("consumer", "shift", "orders", "workers", "--as", "others", "--allow", "azure/eastus", "--proof")
    refused = Runner(directory)(*words, "@edited.json", "--json", store="store", check=19)
    assert f"{field} differ" in refused.error["message"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
