"""What the commands get through pipes, beside `cat` through the same pipes into py-lmdb alone; with their start."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import grafctl
from bench.rows import Row, Target
from bench.stores import DOMAINS, GRAFCTL, RAW_WRITER, make, payloads, pipe, publish_all, surroundings
from bench.turns import in_turn, ratio

NAME = "pipes: publish - and poll -o jsonl through pipes"
LINES, ROUNDS = 150_000, 4
RATIO_MIN = 0.4


def run() -> list[Row]:
    """Measures both commands, each in turn with `cat` into the raw writer."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        store = make(directory / "store", "in", "out")
        lines = payloads(LINES)
        source = directory / "lines"
        source.write_bytes(b"\n".join(lines) + b"\n")
        numbers = itertools.count()
        writer = (sys.executable, "-c", RAW_WRITER)

        def into_raw(command: tuple[str, ...]) -> None:
            place = directory / f"raw-{next(numbers)}"
            place.mkdir()
            pipe(command, (*writer, *(str(place / domain) for domain in DOMAINS)))
            shutil.rmtree(place)

        publish = (*GRAFCTL, "publish", "in", "-", "-d", "aws", "-s", str(store), "--quiet")
        cat_s, publish_s = in_turn(
            ROUNDS, lambda: into_raw(("cat", str(source))), lambda: pipe(("cat", str(source)), publish)
        )
        with grafctl.open(store) as opened:
            for group in ("sample", "billing"):
                opened.consumers.create("out", group, allow=DOMAINS)
            batches = [lines[at : at + 1000] for at in range(0, LINES, 1000)] * (ROUNDS + 1)
            publish_all(opened, "out", batches)
            assert opened.queues.show("in").body["records"] == LINES * (ROUNDS + 1)
        delivered = directory / "delivered"
        with delivered.open("wb") as file:
            subprocess.run(_poll(store, "sample"), env=surroundings(), stdout=file, check=True)
        assert delivered.read_bytes().count(b"\n") == LINES
        bare_s, poll_s = in_turn(
            ROUNDS, lambda: into_raw(("cat", str(delivered))), lambda: into_raw(_poll(store, "billing"))
        )
        with grafctl.open(store) as opened:
            assert opened.consumers.show("out", "billing").body["cursor"] == LINES * (ROUNDS + 1)
    at_least, note = Target(">=", RATIO_MIN), f"{ROUNDS} rounds of {LINES:,} x 1 KiB, with the start of all processes"
    against = "`cat` through the same pipe into a raw packed writer: 1 MiB values, two environments in turn"
    return [
        Row("cat into the raw packed writer", LINES / median(cat_s), "/s"),
        Row("cat into grafctl publish -", LINES / median(publish_s), "/s"),
        Row("cat of deliveries into the raw packed writer", LINES / median(bare_s), "/s"),
        Row("grafctl poll -o jsonl into the raw packed writer", LINES / median(poll_s), "/s"),
        Row("`publish -` through a pipe", ratio(cat_s, publish_s), "x", at_least, against, note),
        Row("`poll -o jsonl` through a pipe into that writer", ratio(bare_s, poll_s), "x", at_least, against, note),
    ]


def _poll(store: Path, group: str) -> tuple[str, ...]:
    """Returns the command that leases so many more records for so long that none comes again."""
    how = ("--max", str(LINES), "--visibility", "1h", "-o", "jsonl")
    return (*GRAFCTL, "poll", "out", "--group", group, "-d", "aws", "-s", str(store), *how)
