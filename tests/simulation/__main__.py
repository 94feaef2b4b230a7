"""Plays many histories on all cores, or one with its trace: `make simulate SEEDS=10000`, `make simulate SEED=17`.

python -m simulation --seeds 10000 --first 0 --jobs 8     prints counts, and each seed that failed with its reason
python -m simulation --seed 17                            prints every step of one history
--flow with any of these                                  those of a stage at work on a log that resources share

Exits 1 where a seed failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context

from simulation.flow import play_briefly, play_flow
from simulation.history import Report, play

SHOWN = 2_000  # characters of a failure
CHUNK = 20


def reports(first: int, count: int, jobs: int, *, is_flow: bool) -> Iterator[Report]:
    """Yields what comes of each seed, as it comes."""
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(partial(play_briefly, is_flow=is_flow), range(first, first + count), CHUNK)


def many(first: int, count: int, jobs: int, *, is_flow: bool) -> int:
    began, counts, failed = time.monotonic(), Counter[str](), dict[int, Report]()
    told = began
    for report in reports(first, count, jobs, is_flow=is_flow):
        counts += report.counts
        if report.failure is not None:
            failed[report.seed] = report
            print(f"seed {report.seed} [{report.shape}]: {report.failure[-SHOWN:]}\n", flush=True)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"… {counts['histories']:,} histories, {len(failed)} failed", flush=True)
    for name, number in sorted(counts.items()):
        print(f"{name:>24} {number:>12,}")
    print(f"{time.monotonic() - began:.0f} s on {jobs} cores; {len(failed)} of {count:,} seeds failed")
    for seed in sorted(failed):
        print(f"make simulate {'FLOW=1 ' if is_flow else ''}SEED={seed}")
    return 1 if failed else 0


def one(seed: int, *, is_flow: bool) -> int:
    report = play_flow(seed) if is_flow else play(seed)
    for now_us, who, *what in report.trace:
        print(f"{float(str(now_us)) / 1e6:>11.6f} {who!s:<14}", *what)
    print(f"seed {seed} [{report.shape}], digest {report.digest}: {report.failure or 'good'}")
    return 1 if report.failure else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--flow", action="store_true")
    asked = parser.parse_args()
    if asked.seed is not None:
        return one(asked.seed, is_flow=asked.flow)
    return many(asked.first, asked.seeds, asked.jobs, is_flow=asked.flow)


if __name__ == "__main__":
    sys.exit(main())
