"""Storms by hand: `python -m chaos` from within `tests/`, or `make chaos`.

    python -m chaos --minutes 60          storms of a minute, one after the other, for an hour
    python -m chaos --minutes 60 --jobs 2 two at a time
    python -m chaos --seed 7 --storm 20   the weather of one storm again, for 20 seconds

Each storm is a store of its own and ends with the verdict. When one fails, its store is kept, the exit code is 1, and
the others go on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence

from chaos.seasons import Result, season, weather


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description="storms over real processes")
    parser.add_argument("--minutes", type=float, default=10, metavar="N", help="how long in all (10)")
    parser.add_argument("--storm", type=float, default=60, metavar="SECONDS", help="how long one storm lasts (60)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many at a time (1)")
    parser.add_argument("--seed", type=int, help="one storm, with this seed")
    given = parser.parse_args(arguments)
    until = time.monotonic() + given.minutes * 60
    if given.seed is not None:
        results = [weather(given.seed, given.storm)]
    else:
        with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
            results = [item for each in pool.starmap(season, [(until, given.storm)] * given.jobs) for item in each]
    return report(results)


def report(results: Sequence[Result]) -> int:
    """Prints the sums of all storms and what went wrong; returns the exit code."""
    total: Counter[str] = Counter()
    for _, counts, _ in results:
        total += counts
    for name, count in sorted(total.items()):
        print(f"{count:>10,}  {name}")
    failed = [seed for seed, _, wrong in results if wrong]
    print(f"{len(results)} storms, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
