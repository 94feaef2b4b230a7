"""The page on pipelines does what it says: its commands are typed in order, its table of domains is tried by row."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Runner
from test_readme import blocks, script

import grafctl
from grafctl.errors import NoQuorum

PAGE = (ROOT / "docs" / "pipelines.md").read_text()
STEPS = PAGE.partition("## A mirrored ETL pipeline, step by step")[2].partition("\n## ")[0]
TABLE = PAGE.partition("## Which domains survive what")[2].partition("\n## ")[0]
DOMAINS = ("aws", "gcp", "azure")


def test_the_commands_of_the_page_end_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    typed = script(blocks(STEPS, "sh")).replace(
        "\ngrafctl() {", f'\npython() {{ {sys.executable} "$@"; }}\ngrafctl() {{'
    )
    ended = subprocess.run(
        ["bash", "-c", typed],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    assert ended.returncode == 0, ended.stderr
    promised = re.findall(r"^#> (.*)$", STEPS, re.MULTILINE)
    assert promised and all(line in ended.stdout.splitlines() for line in promised)


def table() -> list[tuple[list[str], bool, dict[str, bool]]]:
    """Returns of each row of the table its replicas, whether `min_payload = 1`, and which domain may be away."""
    found = []
    replicas: list[str] = []
    for line in TABLE.splitlines():
        if not line.startswith("| `") and not line.startswith("| the same"):
            continue
        first, away, _ = (cell.strip() for cell in line.strip("|").split("|"))
        small = "`min_payload = 1`" in first
        replicas = replicas if small else re.findall(r"`([a-z:]+)`", first)
        goes_on = away.startswith("all goes on")
        exception = re.match(r"without `(\w+)` all goes on; without", away)
        found.append((replicas, small, {name: goes_on or bool(exception and exception[1] == name) for name in DOMAINS}))
    return found


def test_the_table_has_the_sets_that_people_ask_for() -> None:
    rows = [(replicas, small) for replicas, small, _ in table()]
    three = ["aws", "gcp", "azure:witness"]
    assert rows == [(["aws", "gcp"], False), (["aws", "gcp", "azure"], False), (three, False), (three, True)]


@pytest.mark.parametrize("row", table(), ids=lambda row: "+".join(row[0]) + ("-one-copy" if row[1] else ""))
def test_what_may_be_away_is_as_the_table_says(row: tuple[list[str], bool, dict[str, bool]], tmp_path: Path) -> None:
    replicas, small, goes_on = row
    # The store has two domains more, so that its own logs keep their quorum: the page speaks of the log of a pipeline.
    grafctl.create(tmp_path, dict.fromkeys((*DOMAINS, "d", "e")))
    with grafctl.open(tmp_path) as store:
        store.queues.create(
            "orders",
            replicas=[f"r-{text.partition(':')[0]}={text}" for text in replicas],
            allow=["**"],
            min_payload=1 if small else None,
        )
        for away in (text.partition(":")[0] for text in replicas):
            caller = next(name for name in ("aws", "gcp") if name != away)
            store.publish("orders", "before", domain=caller)
            store.domains.fail(away)
            if goes_on[away]:
                store.publish("orders", "meanwhile", domain=caller)
            else:
                with pytest.raises(NoQuorum) as refused:
                    store.publish("orders", "meanwhile", domain=caller)
                assert refused.value.exit_code == 21
                assert store.peek("orders", domain=caller).body["records"]
            store.domains.restore(away)
        for pair in (("aws", "gcp"), ("aws", "azure"), ("gcp", "azure")):
            for name in pair:
                store.domains.fail(name)
            if len(replicas) > 2:
                with pytest.raises(NoQuorum):
                    store.publish("orders", "meanwhile", domain="aws")
            for name in pair:
                store.domains.restore(name)


def test_the_pipeline_that_is_built_in_python_runs(run: Runner, tmp_path: Path) -> None:
    run("init", "store", "--domain", "aws/us-east-1", "--domain", "gcp/us-central1")
    (block,) = blocks(PAGE, "python")
    for text in (block, block.partition("assert")[0]):  # again, and nothing is new
        (tmp_path / "app.py").write_text(text)
        surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "app.py"], cwd=tmp_path, env=surroundings, check=True)
    with sqlite3.connect(tmp_path / "orders.db") as warehouse:
        assert warehouse.execute("SELECT id FROM orders ORDER BY id").fetchall() == [(0,), (1,), (3,)]
