"""Whether a pipeline takes the same memory for 1.5 GB of orders as for a little: the most that each process ever had.

The orders are those of the example, each with its lines many times over, 10 kB of it, because it is bytes that count
here. It takes minutes and ten times the disk, so it runs only when it is named: `python -m bench pipeline_memory`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from bench.pipeline_runs import Peak, inputs, prepare, run_ours
from bench.rows import Row, Target

NAME = "pipeline_memory: ingest, normalise, commit with a small input and with a large one"
FEW, MANY = 0.03, 0.1  # scale factors: 45,000 orders, which fill every buffer and map once, and 150,000
TIMES = 17  # the lines of each order, so that the larger one is 1.6 GB
FLAT_MAX = 1.15


def run() -> list[Row]:
    """Runs both, one after the other."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        few_mb, small = _peaks(Path(name) / "few", FEW)
        many_mb, large = _peaks(Path(name) / "many", MANY)
    note = f"{many_mb:,} MB in place of {few_mb:,} MB; the most it ever had, mapped pages included"
    against, flat = "the same with a small input", Target("<=", FLAT_MAX)
    for stage, peak in large.items():
        rows.append(Row(f"memory of {stage}", peak.all_mb, "MB"))
        rows.append(Row(f"memory of {stage}, what is not pages of files", peak.own_mb, "MB"))
        rows.append(Row(f"memory of {stage}", peak.all_mb / small[stage].all_mb, "x", flat, against, note))
    return rows


def _peaks(folder: Path, scale: float) -> tuple[int, dict[str, Peak]]:
    """Returns how many MB of orders went through, and the most memory in MB of each process."""
    folder.mkdir()
    given = inputs(folder / "feeds", scale)
    for file in given.files:
        _widen(file)
    prepare(folder / "run")
    peaks = run_ours(folder / "run", given)
    size_mb = sum(file.stat().st_size for file in given.files) // 1_000_000
    shutil.rmtree(folder)
    return size_mb, peaks


def _widen(file: Path) -> None:
    wide = file.with_suffix(".wide")
    with file.open("rb") as lines, wide.open("wb") as out:
        for line in lines:
            event = json.loads(line)
            event["lines"] *= TIMES
            out.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
    wide.replace(file)
