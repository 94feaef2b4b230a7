"""The long run: `python -m damage --trials 10000`, over all cores; one seed repeats one trial."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from damage.trials import Trial, table, trials

CHUNK = 50

TELL_S = 30


def _some(first: int, count: int, rot: bool, way: str | None) -> list[Trial]:
    with tempfile.TemporaryDirectory(prefix="grafctl-damage-") as folder:
        return trials(first, count, Path(folder), rot=rot, way=way)


def main() -> int:
    """Runs trials and prints counts by kind and outcome; returns 1 where one was wrong."""
    parser = argparse.ArgumentParser(prog="damage")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--way", help="only this kind of damage")
    parser.add_argument("--rot", action="store_true", help="damage that the file system does not show")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    begin, done = time.monotonic(), []
    told = begin
    with ProcessPoolExecutor(asked.jobs) as pool:
        firsts = range(asked.seed, asked.seed + asked.trials, CHUNK)
        parts = [
            pool.submit(_some, first, min(CHUNK, asked.seed + asked.trials - first), asked.rot, asked.way)
            for first in firsts
        ]
        for part in as_completed(parts):
            for trial in part.result():
                done.append(trial)
                if trial.outcome == "wrong":
                    print(f"seed {trial.seed} {trial.way}: {trial.what}", *trial.wrong, sep="\n    ", flush=True)
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                print(f"… {len(done):,} trials", flush=True)
    print(table(done))
    print(f"{len(done)} trials in {time.monotonic() - begin:.0f} s")
    return int(any(trial.outcome == "wrong" for trial in done))


if __name__ == "__main__":
    sys.exit(main())
