"""What `docs/declared.md` says of saved plans is typed into a shell, and ends as it says."""

from __future__ import annotations

import json
import re
import subprocess

from conftest import ROOT, Runner
from test_readme import script

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
