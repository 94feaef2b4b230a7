"""`python -m faults.system_calls`, from `tests`: every system call of every command made to fail, with counts.

    --jobs N       how many processes share the work
    --every K      only every K-th call of a kind
    --only WORD    only commands with this in their name (may be given again)

Prints a line for each command: how many calls of each kind it makes, the cases, and how many ended with which exit
code (-9: killed, as the case asked for), and at the end the same by kind of fault. Ends with 1 where a case failed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from faults.failing_calls import COMMANDS_AND_FOLDING, FATES, CallSweep, Fate, home


class Counts(NamedTuple):
    """What came of one command."""

    command: str
    reached: Counter[str]
    outcomes: Counter[tuple[Fate, int]]
    failed: list[str]


def sweep(command: str, every: int) -> Counts:
    """Runs all cases of a command in its home shape."""
    folder = Path(tempfile.mkdtemp(prefix="grafctl-calls-"))
    calls = CallSweep(folder)
    outcomes: Counter[tuple[Fate, int]] = Counter()
    failed = []
    try:
        for fate in FATES:
            for case, outcome in calls.all_of(command, home(command), fate, every):
                if isinstance(outcome, AssertionError):
                    failed.append(f"{case}: {outcome}")
                else:
                    outcomes[fate, outcome.exit] += 1
        return Counts(command, calls.reached(command, home(command)), outcomes, failed)
    finally:
        calls.close()
        shutil.rmtree(folder, ignore_errors=True)


def _shown(counts: Counter[str] | Counter[int]) -> str:
    return " ".join(f"{name}:{count}" for name, count in sorted(counts.items(), key=lambda item: str(item[0])))


def _show(counts: Counts) -> None:
    exits: Counter[int] = Counter()
    for (_, code), count in counts.outcomes.items():
        exits[code] += count
    cases = exits.total() + len(counts.failed)
    print(f"{counts.command}: calls {_shown(counts.reached)}; {cases} cases; exits {_shown(exits)}", flush=True)
    for failed in counts.failed:
        print(f"FAILED {failed}", flush=True)


def main() -> int:
    """Runs what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description="Every system call of every command made to fail.")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", action="append", default=[])
    asked = parser.parse_args()
    names = [name for name in COMMANDS_AND_FOLDING if not asked.only or any(word in name for word in asked.only)]
    began, by_fate, failed = time.monotonic(), Counter[tuple[Fate, int]](), 0
    with ProcessPoolExecutor(asked.jobs) as pool:
        for counts in pool.map(sweep, names, [asked.every] * len(names)):
            _show(counts)
            by_fate += counts.outcomes
            failed += len(counts.failed)
    for fate in FATES:
        exits = Counter({code: count for (found, code), count in by_fate.items() if found == fate})
        print(f"{fate.kind} {fate.how} {fate.lasts}: {exits.total()} cases; exits {_shown(exits)}")
    print(f"{by_fate.total() + failed} cases, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed or not by_fate else 0


if __name__ == "__main__":
    sys.exit(main())
