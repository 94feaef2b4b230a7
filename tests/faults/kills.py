"""Directed kills by hand: `python -m faults.kills` from within `tests/`, or `make kills`.

    python -m faults.kills                 5,000 cases, drawn from all there are
    python -m faults.kills --cases 0       all of them
    python -m faults.kills --seed 7        the same draw again

A case is a command, a shape of voters, one or two kills at named points, and perhaps a domain that is away before or
after (`sweeping.py`). Prints how many there were of each kind; exits 1 where one does not hold, after all were run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faults.sweeping import PAIRS, Case, Sweep

Result = tuple[Counter[str], list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m faults.kills", description="kills at named points")
    parser.add_argument("--cases", type=int, default=5000, metavar="N", help="how many, 0 for all (5000)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of the draw")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), metavar="N", help="processes")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        asked = [(given.cases, given.seed, job, given.jobs) for job in range(given.jobs)]
        results = pool.starmap(share, asked, chunksize=1)
    counts: Counter[str] = sum((counts for counts, _ in results), Counter())
    failed = [text for _, texts in results for text in texts]
    for name, count in sorted(counts.items()):
        print(f"{count:>8,}  {name}")
    for text in failed:
        print(f"\n{text}")
    print(f"{counts['cases']} cases, {len(failed)} failed")
    return 1 if failed or not counts["cases"] else 0


def share(cases: int, seed: int, job: int, jobs: int) -> Result:
    """Runs one process's share of the draw: the pairs of command and shape are dealt out, each with its part."""
    counts: Counter[str] = Counter()
    failed = []
    with tempfile.TemporaryDirectory(prefix="kills.") as folder:
        sweep = Sweep(Path(folder))
        try:
            for place, pair in enumerate(PAIRS):
                if place % jobs == job:
                    print(f"… {' in '.join(pair)}", flush=True)
                    for case in draw(sweep, pair, cases, seed):
                        count(counts, case)
                        try:
                            sweep.run(case)
                        except AssertionError as error:
                            failed.append(f"{case}: {error}")
        finally:
            sweep.close()
    return counts, failed


def draw(sweep: Sweep, pair: tuple[str, str], cases: int, seed: int) -> list[Case]:
    """Returns all single kills of a command in a shape first, then of the others so many as are its part."""
    plain, compound = sweep.plain(*pair), list(sweep.compound(*pair))
    if not cases:
        return plain + compound
    part = max(1, cases // len(PAIRS))
    chance = random.Random(f"{seed} {pair}")
    singles = plain if len(plain) <= part // 2 else chance.sample(plain, part // 2)
    return singles + chance.sample(compound, min(len(compound), part - len(singles)))


def count(counts: Counter[str], case: Case) -> None:
    counts["cases"] += 1
    counts[f"of {case.command}"] += 1
    kind = f"with a domain away {case.outage.when}" if case.outage else f"with {len(case.kills)} kills"
    counts[f"cases {kind}"] += 1


if __name__ == "__main__":
    sys.exit(main())
