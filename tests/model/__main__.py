"""Runs the model checker by hand: `python -m model` from within `tests/`; after the protocol, the switchover.

    python -m model                the quick configurations, each also with a fresh client from every state
    python -m model --long         the long ones (minutes, and some gigabytes of memory)
    python -m model --mutants      the errors, each with the shortest trace to what it breaks
    python -m model --match WORD   only those with the word in their name

When it fails: exit code 1, after everything was run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from model import lock_all, switching, switching_explorer, switching_mutants
from model.configurations import LONG, QUICK, Configuration
from model.explorer import explore
from model.liveness import applies_to, check
from model.mutants import MUTANTS, STUCK, hunt


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m model", description="explores the replication protocol")
    parser.add_argument("--long", action="store_true", help="the long configurations")
    parser.add_argument("--mutants", action="store_true", help="the errors that must be caught")
    parser.add_argument("--match", default="", metavar="WORD", help="only those with WORD in their name")
    parser.add_argument("--limit", type=int, default=20_000_000, metavar="N", help="states of one configuration")
    given = parser.parse_args(arguments)
    if given.mutants:
        return _mutants(given.match, given.limit)
    configurations = LONG if given.long else QUICK
    bad = _configurations(
        [c for c in configurations if given.match in c.setting.name], given.limit, lively=not given.long
    )
    settings = switching_mutants.LONG if given.long else switching_mutants.SOUND
    return _switchovers([setting for setting in settings if given.match in setting.name]) or bad


def _configurations(configurations: Sequence[Configuration], limit: int, *, lively: bool) -> int:
    bad, states, seconds = 0, 0, 0.0
    for setting, least in configurations:
        note = ""
        if lively and applies_to(setting):
            result, visitor = check(setting, limit)
            note = f"; fresh clients: {visitor.recoveries}, blocked on payloads: {visitor.blocked}"
        else:
            result = explore(setting, limit)
        print(f"{result}{note}", flush=True)
        if result.states < least and not result.violation:
            print(f"    fewer states than the recorded {least}")
        bad += bool(result.violation) or result.limited or result.states < least
        states, seconds = states + result.states, seconds + result.seconds
    print(f"{len(configurations)} configurations, {states} states, {seconds:.0f} s, {bad} bad")
    return 1 if bad else 0


def _switchovers(settings: Sequence[switching.Setting]) -> int:
    bad = 0
    for setting in settings:
        result = switching_explorer.explore(setting)
        print(f"switchover, {result}", flush=True)
        bad += result.violation is not None
    return 1 if bad else 0


def _mutants(match: str, limit: int) -> int:
    missed = 0
    for mutant in (mutant for mutant in MUTANTS if match in mutant.name):
        result = hunt(mutant, limit)
        caught = result.violation is not None and result.violation.startswith(mutant.breaks)
        missed += not caught
        print(f"{'caught' if caught else 'MISSED'}: {mutant.name}: {result}", flush=True)
    for name, setting, options in (stuck for stuck in STUCK if match in stuck[0]):
        result, _ = check(setting, limit, **options)
        missed += result.violation is None
        print(f"{'caught' if result.violation else 'MISSED'}: {name}: {result}", flush=True)
    if match in "lock all":
        found = lock_all.violation()
        missed += found is None
        print(f"{'caught' if found else 'MISSED'}: lock all: {found[0] if found else ''}")
        print("".join(f"    {step}\n" for step in (found[1] if found else ())), end="")
    for error in (error for error in switching_mutants.MUTANTS if match in error.name):
        found_late = switching_explorer.explore(error.wrong_setting)
        caught = (found_late.violation or "").startswith(error.breaks)
        missed += not caught
        print(f"{'caught' if caught else 'MISSED'}: switchover, {error.name}: {found_late}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
