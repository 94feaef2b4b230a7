"""A system call fails, is cut short, or is the last of its process: the same command finishes, and nothing is lost.

The default run takes for each command a few of its calls, so chosen by the seed that every kind of call, every way to
fail and every duration is among them. `make syscalls` and `pytest -m slow` take every call.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterable, Iterator

import pytest

from faults.failing_calls import (
    AFTER,
    BEFORE,
    COMMANDS_AND_FOLDING,
    FATES,
    SHORT,
    CallCase,
    CallSweep,
    Fate,
    Outcome,
    home,
)
from faults.forks import Trace
from faults.tracing import EVERYWHERE, ONCE, THERE, Event, Fault

CASES = 6  # of each command in the default run
# What this sweep has found, and was mended: each must stay mended.
FOUND = [
    CallCase("domain add", "three", Fault("write", 1, SHORT, ONCE)),  # a part of store.toml took the place of the whole
    CallCase("domain add", "three", Fault("flush", 2, "EIO", ONCE)),
    CallCase("init", "three", Fault("create", 6, "ENOSPC", ONCE)),  # a traceback
    CallCase("init", "three", Fault("open", 11, "EIO", ONCE)),
    CallCase("domain add", "three", Fault("open", 41, "EIO", ONCE)),
    CallCase("publish", "three", Fault("open", 1, "EIO", ONCE)),  # "there is no such store"
    CallCase("catch-up in chunks, folding", "three", Fault("open", 11, "EIO", EVERYWHERE)),
]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CallSweep]:
    calls = CallSweep(tmp_path_factory.mktemp("calls"))
    yield calls
    calls.close()


def run_all(calls: CallSweep, cases: Iterable[CallCase]) -> list[Outcome]:
    """Runs cases to the last; raises with those that failed."""
    failed, outcomes = [], []
    for case in cases:
        try:
            outcomes.append(calls.run(case))
        except AssertionError as error:
            failed.append(f"{case}: {error}")
    assert not failed, "\n".join(["", f"{len(failed)} cases:", *failed])
    return outcomes


def sample(calls: CallSweep, command: str, seed: int) -> list[CallCase]:
    """Returns cases in which each kind of call, each fate and each duration is met that the command can meet."""
    chance = random.Random(seed)
    reached = calls.reached(command, home(command))
    fates = [fate for fate in FATES if reached[fate.kind]]
    chance.shuffle(fates)
    chosen: list[Fate] = []
    met: set[str] = set()
    for fate in fates:
        if not set(fate) <= met:
            chosen.append(fate)
            met |= set(fate)
    chosen += [fate for fate in fates if fate not in chosen][: max(0, CASES - len(chosen))]
    return [
        CallCase(command, home(command), Fault(kind, chance.randint(1, reached[kind]), how, lasts))
        for kind, how, lasts in chosen
    ]


@pytest.mark.parametrize("command", COMMANDS_AND_FOLDING)
def test_a_call_fails_and_the_same_command_finishes(calls: CallSweep, command: str, seed: int) -> None:
    cases = sample(calls, command, seed)
    met = {word for case in cases for word in (case.fault.kind, case.fault.how, case.fault.lasts)}
    assert {"open", "create", "write", "flush", "EIO", "ENOSPC", SHORT, BEFORE, AFTER, ONCE, THERE, EVERYWHERE} <= met
    outcomes = run_all(calls, cases)
    for case, outcome in zip(cases, outcomes, strict=True):
        if not outcome.is_reached:  # threads do not make the same number of calls each time
            assert calls.run(case._replace(fault=case.fault._replace(n=1))).is_reached


@pytest.mark.parametrize("case", FOUND, ids=str)
def test_what_was_found_stays_mended(calls: CallSweep, case: CallCase) -> None:
    assert calls.run(case).is_reached


@pytest.mark.parametrize("kind", ["write", "flush"])
def test_the_calls_of_a_command_come_to_an_end(calls: CallSweep, kind: str) -> None:
    """Every n is met until there are no more, and what is beyond the last leaves the command alone."""
    fate = Fate(kind, "EIO", ONCE)
    cases = [case for case, _ in calls.all_of("publish --id", "three", fate)]
    assert [case.fault.n for case in cases] == list(range(1, len(cases) + 1))
    assert len(cases) >= 3, "each of three voters writes and flushes"


def test_a_short_write_is_short(calls: CallSweep) -> None:
    """Half of what was asked for is in the file, and the caller is told so, who comes again with the rest."""
    store, ledger = calls.sweep.begin("domain add", "three")
    case = CallCase("domain add", "three", Fault("write", 1, SHORT))
    log = store.parent / "short.log"
    ran = calls.sweep.attempt(case.plain, store, ledger, trace=Trace(str(store), case.fault, str(log)))
    assert ran.exit == 0 and ran.injected == ["write store.toml.new"]
    written = [Event(*row) for row in pickle.loads(log.read_bytes()) if row[:2] == ("write", "store.toml.new")]
    text = (store / "store.toml").read_bytes()
    assert [(event.offset, event.data) for event in written] == [
        (0, text[: len(text) // 2]),
        (len(text) // 2, text[len(text) // 2 :]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS_AND_FOLDING)
def test_every_call_of_every_command(calls: CallSweep, command: str) -> None:
    count, failed = 0, []
    for fate in FATES:
        for case, outcome in calls.all_of(command, home(command), fate):
            count += 1
            if isinstance(outcome, AssertionError):
                failed.append(f"{case}: {outcome}")
    assert not failed, "\n".join(["", f"{len(failed)} of {count} cases:", *failed[:10]])
    assert count
