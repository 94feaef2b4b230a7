"""Judging a consumer that was switched, for as long as its window runs: by what the store holds, and by a command.

Promises
- What is judged is counted from the beginning of the soak on, and kept with the switch under its generation: whoever
  was overtaken by a flip keeps nothing.
- A judgement reads and compares; it takes nobody back. Who asked for it does that, with the sentences it gave.

What a crash leaves behind: the last judgement; the next one goes on with the same beginnings.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.store.intervals import size
from grafctl.store.operations.switching.comparing import Comparer
from grafctl.store.operations.switching.health_command import ask
from grafctl.store.operations.switching.work import look, side_of
from grafctl.store.resources.switches import NoteSoak
from grafctl.store.session import Session
from grafctl.store.switch_compare import TARGET, mismatches
from grafctl.store.switch_health import HEALTH_COMMAND, Check, Numbers, begun, broken, judged
from grafctl.typed import Any, Mapping, NamedTuple


class Judgement(NamedTuple):
    """What a judgement came to."""

    checks: list[Check]
    soak: dict[str, Any]  # as it is kept
    shadow: dict[str, Any]

    @property
    def sentences(self) -> list[str]:
        """Returns what is wrong; nothing where all is well."""
        return [check.sentence for check in broken(self.checks)]


class Judge:
    """Judges one switch at one generation, as often as one likes."""

    def __init__(self, session: Session, name: str, row: Mapping[str, Any], domain: str) -> None:
        self.session, self.name, self.row = session, name, row
        self.soak: dict[str, Any] = dict(row["soak"])
        self._comparer = Comparer(session, name, row, domain)

    def judge(self) -> Judgement:
        """Compares what is new, asks the command where there is one, and judges each rule that has a limit."""
        rules = self.row["rules"]
        shadow = self._comparer.run().shadow
        numbers = self._numbers(mismatches(shadow["counts"]))
        if not self.soak:
            self.soak = begun(numbers, clock.now_ms())
        verdict = ask(rules[HEALTH_COMMAND], self.name) if HEALTH_COMMAND in rules else None
        self.soak, checks = judged(rules, self.soak, numbers, clock.now_ms(), verdict)
        self.session.control.append(NoteSoak(self.name, self.row["generation"], self.soak))
        return Judgement(checks, self.soak, shadow)

    def _numbers(self, found: int) -> Numbers:
        """Returns what the store says of the target's group."""
        here = look(side_of(self.session, self.name, self.row, TARGET))
        lineage = here.lineage
        dead = size(lineage.dead)
        lag = here.queue["next"] - lineage.floor - size(lineage.done) - dead
        finished = lineage.finalised - lineage.skipped - lineage.lost
        return Numbers(lag, finished, lineage.redelivered, dead, found)
