"""The cases of the system call sweep: which command, in which store, meets what at its n-th call of a kind.

A case is: copy a store; run the command with one of its system calls made to fail, once or from then on, or with the
process killed at it; then, with the fault gone, the same command, which must succeed, and once more, which must change
nothing; then the verdict. The n of a kind go from 1 until the command no longer makes so many calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from faults.forks import Trace
from faults.sweeping import COMMANDS, PIPELINE, Case, Command, Sweep
from faults.tracing import AFTER, BEFORE, EVERYWHERE, KINDS, ONCE, SHORT, THERE, Fault

# What each kind of call may answer on a real system. A disk without room refuses what needs some.
ERRORS = {
    "open": ("EIO",),
    "create": ("EIO", "ENOSPC"),
    "write": ("EIO", "ENOSPC", SHORT),
    "flush": ("EIO", "ENOSPC"),
    "resize": ("EIO", "ENOSPC"),
    "rename": ("EIO", "ENOSPC"),
    "unlink": ("EIO",),
}
assert set(ERRORS) == set(KINDS)


class Fate(NamedTuple):
    """What becomes of one kind of call."""

    kind: str
    how: str
    lasts: str = ONCE


FATES = [
    *(Fate(kind, how, lasts) for kind in ERRORS for how in ERRORS[kind] for lasts in (ONCE, THERE, EVERYWHERE)),
    *(Fate(kind, how) for kind in ERRORS for how in (BEFORE, AFTER)),
]
# What a command may answer while a call fails: not now (12), no quorum (21), busy (22), full (23), out of time (24),
# damaged (25), because a disk that gives errors cannot be told from a damaged one.
HOPELESS_S = 1.0  # how long a command tries where a disk fails everywhere and for ever
EXITS = {0, 12, 21, 22, 23, 24, 25}

# Small commits go to the journal; with this each goes to LMDB: pages, flush, meta page.
FOLDED = {"grafctl.store.driver.journal.DIRECT_BYTES": 0}
_FOLDING = ("publish --id", "ack", "poll", "locator set --add", "catch-up in chunks", "domain restore")
# What a warehouse makes of a failed call is its own; what comes of that is in tests/pipeline. A vshard goes back as it
# went, but for the base copy.
_OF_THE_STORE = {name: command for name, command in COMMANDS.items() if name not in (PIPELINE, "vshard reverse")}
COMMANDS_AND_FOLDING: dict[str, Command] = _OF_THE_STORE | {
    f"{name}, folding": replace(COMMANDS[name], patch={**COMMANDS[name].patch, **FOLDED}) for name in _FOLDING
}


def home(name: str) -> str:
    """Returns the shape in which a command is tried: three voters, where that can be."""
    shapes = COMMANDS_AND_FOLDING[name].shapes
    return "three" if "three" in shapes else shapes[0]


class CallCase(NamedTuple):
    """One run of the sweep."""

    command: str
    shape: str
    fault: Fault

    @property
    def plain(self) -> Case:
        return Case(self.command, self.shape, ())

    def __str__(self) -> str:
        return f"{self.command} [{self.shape}]: {self.fault}"


class Outcome(NamedTuple):
    """What came of a case: whether the command made so many calls, and its exit code, -9 where it was killed."""

    is_reached: bool
    exit: int


class CallSweep:
    """Runs cases; knows how many calls of each kind a command makes when nothing goes wrong."""

    def __init__(self, folder: Path) -> None:
        self.sweep = Sweep(folder, COMMANDS_AND_FOLDING)
        self._reached: dict[tuple[str, str], Counter[str]] = {}

    def close(self) -> None:
        self.sweep.close()

    def reached(self, name: str, shape: str) -> Counter[str]:
        """Returns how many calls of each kind a command makes."""
        if (name, shape) not in self._reached:
            store, ledger = self.sweep.begin(name, shape)
            ran = self.sweep.attempt(Case(name, shape, ()), store, ledger, trace=Trace(str(store)))
            assert ran.exit == 0, ran
            self._reached[name, shape] = Counter(ran.reached)
            self.sweep.templates.discard(store)
        return self._reached[name, shape]

    def all_of(
        self, name: str, shape: str, fate: Fate, every: int = 1
    ) -> Iterator[tuple[CallCase, Outcome | AssertionError]]:
        """Runs every n of a kind until the command makes fewer calls; yields what came of each that was reached."""
        n = 1
        while True:
            case = CallCase(name, shape, Fault(fate.kind, n, fate.how, fate.lasts))
            try:
                outcome = self.run(case)
            except AssertionError as error:
                yield case, error
            else:
                if not outcome.is_reached:
                    return
                yield case, outcome
            n += every

    def run(self, case: CallCase) -> Outcome:
        """Runs a case; raises `AssertionError` with what does not hold."""
        fault = case.fault
        store, ledger = self.sweep.begin(case.command, case.shape)
        deadline_s = HOPELESS_S if fault.lasts == EVERYWHERE else None
        trace = Trace(str(store), fault, deadline_s=deadline_s)
        ran = self.sweep.attempt(case.plain, store, ledger, trace=trace)
        is_reached = bool(ran.injected)
        assert is_reached == (ran.reached.get(fault.kind, 0) >= fault.n), f"{fault.n} calls, and none failed: {ran}"
        if is_reached and fault.how in (BEFORE, AFTER):
            assert ran.killed, f"was not killed: {ran}"
        elif is_reached:
            assert ran.exit in EXITS, f"ended with {ran}"
        else:
            assert ran.exit == 0, f"without a fault: {ran}"
        if is_reached:
            self.sweep.finish(case.plain, store, ledger, ran if ran.exit == 0 else None)
        self.sweep.templates.discard(store)
        return Outcome(is_reached, -ran.signal if ran.signal else ran.exit)
