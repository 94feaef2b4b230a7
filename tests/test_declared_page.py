"""What `docs/declared.md` says of saved plans is typed into a shell, and ends as it says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Runner
from test_readme import script

from grafctl.declare.store import parse
from grafctl.errors import InvalidConfig

PAGE = (ROOT / "docs" / "declared.md").read_text()


def test_the_life_of_a_plan_is_as_the_page_says(run: Runner) -> None:
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    ended = subprocess.run(
        ["bash", "-c", script([block])], cwd=run.cwd, env=run.environment(), capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("Nothing to change in the store") == block.count("hing to change") + block.count(
        "changes nothing"
    )
    assert "placement allow aws (pl_" in ended.stdout and "--expect pl_" in ended.stdout
    assert "queue raw-orders has another placement" in ended.stderr
    body = json.loads((run.cwd / "store.plan").read_text())
    assert body["relies_on"].keys() >= {"log orders", "idem order-effects", "group clean of raw-orders"}


ROWS = {
    name: keys for names, keys in re.findall(r"^\| (`\[\[.*?) \| (.*?) \|$", PAGE, re.M) for name in names.split(", ")
}


@pytest.mark.parametrize("name", ROWS)
def test_the_keys_of_each_table_are_those_that_its_reader_takes(name: str) -> None:
    header, keys = name.strip("`[]"), set(re.findall(r"`(\w+)`", ROWS[name]))
    if header == "topic":
        keys |= set(re.findall(r"`(\w+)`", ROWS["`[[queue]]`"]))
    if header == "queue.group":
        keys -= {"filter"}
    above = "[[topic]]\n" if header == "topic.group" else "[[queue]]\n" if header == "queue.group" else ""
    with pytest.raises(InvalidConfig) as caught:
        parse(f"{above}[[{header}]]\nqqqqqqqqqq = 1\n".encode(), "store.toml", Path("/"))
    (told,) = [sentence for _, sentence in caught.value.problems if "qqqqqqqqqq" in sentence]
    assert set(told.partition("it takes ")[2].rstrip(".").split(", ")) == keys
