"""How often one publish asks the disk to keep something, counted by strace in a process that publishes on and on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.rows import Row, unmeasured
from bench.servers import Missing
from bench.stores import ROOT, make, surroundings

NAME = "flushes: system calls of one single publish in its steady state"
# `pwrite64` counts too, because LMDB writes its meta page through a descriptor that flushes by itself.
CALLS = ("fdatasync", "fsync", "sync_file_range", "msync", "pwrite64", "pwritev", "pwritev2", "writev")
FEW, MANY = 50, 250


def run() -> list[Row]:
    """Counts the calls of two runs; what the second has more is of the publishes that it has more."""
    rows = [Row(f"{call} of one publish", None, "calls") for call in CALLS]
    if shutil.which("strace") is None:
        return [unmeasured(row, "strace is not installed") for row in rows]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = make(Path(name) / "store", "orders")
        try:
            few, many = (_count(place, Path(name) / "counts", publishes) for publishes in (FEW, MANY))
        except Missing as why:
            return [unmeasured(row, str(why)) for row in rows]
    found = {call: (many.get(call, 0) - few.get(call, 0)) / (MANY - FEW) for call in CALLS}
    return [Row(f"{call} of one publish", calls, "calls") for call, calls in found.items() if calls]


def _count(place: Path, file: Path, publishes: int) -> dict[str, int]:
    """Returns how often a process made each call that publishes so many records; raises `Missing`."""
    command = ["strace", "-f", "-c", "-U", "calls,name", "-o", str(file), "-e", f"trace=?{',?'.join(CALLS)}"]
    child = [sys.executable, "-m", "bench.child", str(place), "orders"]
    said = f"publish {publishes}\n"
    ended = subprocess.run([*command, *child], input=said, text=True, cwd=ROOT, env=surroundings(), capture_output=True)
    if ended.returncode:
        raise Missing(
            f"strace ends with {ended.returncode}: {(ended.stderr.strip() or 'no reason given').splitlines()[-1]}"
        )
    words = [line.split() for line in file.read_text().splitlines()]
    return {word[1]: int(word[0]) for word in words if len(word) == 2 and word[0].isdigit()}
