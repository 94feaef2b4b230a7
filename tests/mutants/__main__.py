"""`python -m mutants` in `tests/`: tries each error of the table, and prints which test caught it, in how many seconds.

    python -m mutants                 all of them
    python -m mutants undo journal    those with one of these words in their name
    python -m mutants --jobs 1        one at a time (two by default)

Ends with 1 where a mutant survives.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from mutants.mutant import Mutant
from mutants.protocol import LISTED, NOT_BUILT
from mutants.running import Caught, Copy
from mutants.table import MUTANTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="take the mutants with one of these words in their name")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not given.words or any(word in mutant.name for word in given.words)]
    width = max(len(mutant.name) for mutant in MUTANTS)
    print(f"{'MUTANT':<{width}}  SECONDS  CAUGHT BY", flush=True)
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        for caught in tried(chosen, Path(place), given.jobs):
            by = caught.by or f"NOTHING: {caught.mutant.why}"
            print(f"{caught.mutant.name:<{width}}  {caught.seconds:7.1f}  {by}", flush=True)
            survivors += [] if caught.by else [caught.mutant.name]
    if not given.words:
        for name, by_what in LISTED.items():
            print(f"protocol: {name}: {', '.join(by_what)}")
        for name, why in NOT_BUILT.items():
            print(f"protocol: {name}: {why}")
    print(
        f"{len(chosen) - len(survivors)} of {len(chosen)} caught"
        + (f"; not {', '.join(survivors)}" if survivors else "")
    )
    return 1 if survivors else 0


def tried(chosen: list[Mutant], place: Path, jobs: int) -> list[Caught] | map[Caught]:
    """Returns what comes of each mutant, in their order, as it comes."""
    free: SimpleQueue[Copy] = SimpleQueue()
    for number in range(jobs):
        (place / str(number)).mkdir()
        free.put(Copy(place / str(number)))

    def hunt(mutant: Mutant) -> Caught:
        copy = free.get()
        try:
            return copy.hunt(mutant)
        finally:
            free.put(copy)

    return ThreadPoolExecutor(jobs).map(hunt, chosen)  # type: ignore[return-value]


if __name__ == "__main__":
    raise SystemExit(main())
