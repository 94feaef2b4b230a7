"""The cases of the sweep over migrations: which verb dies where, and who comes after it.

A case is: copy a store; run the verb until it is killed; then a writer in another process, which must get through
whatever was left; then one of the endings; then the verdict on the table (`moves.py`).

| ending | what follows | what must be there |
|---|---|---|
| again | the same command, and once more, which changes nothing | the migration is over, with its route and way back |
| cancel | `vshard cancel`, where it was not flipped | the vshard is where it was, and no row of it elsewhere |
| nobody | another writer | whatever was left serves both |
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grafctl.client as client
from faults import moves
from faults.forks import Ran
from faults.stores import note
from faults.sweeping import Case, Command, Sweep
from faults.verdict import Ledger, verdict

AGAIN, CANCEL, NOBODY = "again", "cancel", "nobody"
THERE, HERE = "there", "here"  # where the vshard is in the end: in the part, or in its table's home


class Verb(NamedTuple):
    """A verb as it is swept: its deed, the store it begins in, where it leads, and whether a way back is kept."""

    deed: str
    stage: str
    leads: str
    kept: bool

    @property
    def before(self) -> tuple[str, bool]:
        """Returns where the vshard was, and whether it had a way back."""
        return (THERE, True) if self.stage in ("moved", "reversing") else (HERE, False)


VERBS = {
    "migrate": Verb("vshard_migrate", "table", THERE, True),
    "resume": Verb("vshard_resume", "copying", THERE, True),
    "cutover": Verb("vshard_cutover", "held", THERE, True),
    "reverse": Verb("vshard_reverse", "moved", HERE, True),
    "resume on the way back": Verb("vshard_resume", "reversing", HERE, True),
    "cancel": Verb("vshard_cancel", "held", HERE, False),
    "cancel on the way back": Verb("vshard_cancel", "reversing", THERE, True),
    "retire": Verb("vshard_retire", "moved", THERE, False),
}
ENDINGS = {
    name: (AGAIN, CANCEL, NOBODY) if "cancel" not in name and name != "retire" else (AGAIN, NOBODY) for name in VERBS
}
PAIRS = [(name, ending) for name, endings in ENDINGS.items() for ending in endings]
COMMANDS = {name: Command(verb.deed, verb.stage, patch=moves.CHUNKS) for name, verb in VERBS.items()}


class MovingSweep(Sweep):
    """Runs cases of migrations."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, COMMANDS)
        self.ending = AGAIN

    def cases(self, name: str, shape: str) -> list[Case]:
        """Returns the kills of a verb: those at its own points first, all of them."""
        found = self.plain(name, shape)
        return sorted(found, key=lambda case: not case.kills[0][0].startswith("moving."))

    def run_to(self, case: Case, ending: str) -> None:
        """Runs a case to one of the endings."""
        self.ending = ending
        self.run(case)

    def finish(self, case: Case, store: Path, ledger: Ledger, done: Ran | None = None) -> None:
        self._succeeds(store, ledger, "table_put")
        wrong = list(getattr(self, f"_{self.ending}")(case, store, ledger))
        verdict(store, ledger)
        assert not wrong, "\n".join(["", *wrong])

    def _succeeds(self, store: Path, ledger: Ledger, deed: str) -> Ran:
        ran = self._tried(store, ledger, deed)
        assert ran.exit == 0, f"{deed} after it: {ran}"
        return ran

    def _tried(self, store: Path, ledger: Ledger, deed: str) -> Ran:
        ran = self.forks.run(deed, store, patch=moves.CHUNKS)
        note(ledger, ran)
        return ran

    def _ended(self, store: Path, how: str, *, kept: bool) -> Iterator[str]:
        with client.open(store) as opened:
            yield from moves.ended(opened, how, kept=kept)

    def _again(self, case: Case, store: Path, ledger: Ledger) -> Iterator[str]:
        verb = VERBS[case.command]
        self._succeeds(store, ledger, verb.deed)
        again = self._succeeds(store, ledger, verb.deed)
        assert again.of("changed") == [False], f"once more, and it changed something: {again}"
        self._succeeds(store, ledger, "table_put")
        yield from self._ended(store, verb.leads, kept=verb.kept)

    def _cancel(self, case: Case, store: Path, ledger: Ledger) -> Iterator[str]:
        verb = VERBS[case.command]
        ran = self._tried(store, ledger, "vshard_cancel")
        assert ran.exit in (0, 13), ran
        again = self._tried(store, ledger, "vshard_cancel")
        assert again.exit == ran.exit and again.of("changed") in ([], [False]), f"once more: {again} after {ran}"
        where, kept = verb.before
        if ran.exit == 13:  # it was flipped, or the way back was not begun yet
            (state,) = self._succeeds(store, ledger, "vshard_resume").of("states")[0]
            where, kept = {"completed": THERE, "reversed": HERE}[state], True
        yield from self._ended(store, where, kept=kept)

    def _nobody(self, case: Case, store: Path, ledger: Ledger) -> Iterator[str]:
        self._succeeds(store, ledger, "table_put")
        yield from ()
