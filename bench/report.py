"""On what kind of machine a run was made, and its table in docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench.rows import Row, markdown
from bench.stores import ROOT
from grafctl.nouns.file_systems import mounts

DOCS = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def describe() -> str:
    """Returns what a figure depends on, in one line."""
    parts = (
        f"{os.cpu_count()} cores, {_processor()}",
        f"{_memory_gb():.0f} GB of memory",
        f"{_file_system(Path(tempfile.gettempdir()))} on {_disk(Path(tempfile.gettempdir()))}",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"{platform.python_implementation()} {platform.python_version()}",
        f"py-lmdb {version('lmdb')}",
    )
    return "Machine: " + ", ".join(parts) + "."


def put_in_docs(found: Sequence[tuple[str, Row]], order: Sequence[str], docs: Path = DOCS) -> None:
    """Puts the machine and the table between the two marks of the page; rows of other measurements stay there."""
    before, begin, rest = docs.read_text().partition(BEGIN)
    former, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{docs.name} does not have the marks {BEGIN} and {END}")
    head, rule, *rows = markdown(found)
    measured = {name for name, _ in found}
    kept = [line for line in former.splitlines() if (name := _printed_by(line)) and name not in measured]
    rows = sorted(kept + rows, key=lambda line: order.index(_printed_by(line)))
    docs.write_text("\n".join((before + begin, "", describe(), "", head, rule, *rows, "", end + after)))


def _printed_by(line: str) -> str:
    """Returns the measurement of a row of the table, or nothing for another line."""
    found = re.search(r"\| `python -m bench (\w+)` \|$", line)
    return found[1] if found else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} ({names[0]})" if names else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _file_system(place: Path) -> str:
    inside = [mount for mount in mounts() if place.is_relative_to(mount.point)]
    return max(inside, key=lambda mount: len(mount.point)).kind if inside else "an unknown file system"


def _disk(place: Path) -> str:
    """Returns which kind of disk the place is on, as far as the system says."""
    number = place.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    for at in (device, device.resolve().parent):  # a partition's settings are with its disk
        try:
            turns = (at / "queue" / "rotational").read_text().strip() == "1"
            virtual = "virtio" in str(device.resolve())
        except OSError:
            continue
        return "a virtual disk" if virtual else "a turning disk" if turns else "a solid-state disk"
    return "no disk of its own"
