"""Judging a consumer that was switched, for as long as its window runs, and taking it back where a rule is broken.

Promises
- What is judged is counted from the flip on, and kept with the switch under its generation: whoever
  was overtaken by a flip keeps nothing.
- A consumer that a broken rule takes back is taken back as by hand, and the flip says which rules and which numbers.

What a crash leaves behind: the last judgement; the next one goes on with the same beginnings. A way back that was cut
short is gone on with by `consumer rollback`, and given up by whoever polls when its time is over.
"""

from __future__ import annotations

from contextlib import suppress

from grafctl import clock
from grafctl.errors import (
    Busy,
    DomainUnavailable,
    GenerationConflict,
    GrafctlError,
    NoQuorum,
    ProofRequired,
    StoreFull,
    Timeout,
)
from grafctl.store.driver.kill import point
from grafctl.store.operations.switching.carrying import carry
from grafctl.store.operations.switching.comparing import comparer_of
from grafctl.store.operations.switching.health_command import ask
from grafctl.store.operations.switching.turning import open_side, turn
from grafctl.store.operations.switching.work import numbers_at, pass_gate, row_of
from grafctl.store.resources.switches import NoteSoak
from grafctl.store.session import Session
from grafctl.store.switch_compare import mismatches
from grafctl.store.switch_health import HEALTH_COMMAND, Check, begun, broken, judged
from grafctl.store.switch_match import cut
from grafctl.store.switch_rules import ROLLED_BACK, SOAKING, SOURCE, SWITCHED, is_of_tables, moved_on
from grafctl.typed import Any, Mapping, NamedTuple

WHY_CHARACTERS_MAX = 1000
FOR_NOW = (Busy, DomainUnavailable, NoQuorum, StoreFull, Timeout)  # what says nothing about the consumer, and passes


class Judgement(NamedTuple):
    """What a judgement came to."""

    checks: list[Check]
    soak: dict[str, Any]  # as it is kept
    shadow: dict[str, Any]

    @property
    def sentences(self) -> list[str]:
        """Returns what is wrong; nothing where all is well."""
        return [check.sentence for check in broken(self.checks)]


def soaking_row(session: Session, name: str, domain: str) -> dict[str, Any]:
    """Returns the row of a switch that is soaking, begun where its operator died before that; raises the refusal."""
    row = row_of(session, name)
    pass_gate(session, name, row, domain)
    if row["state"] == SWITCHED and row["phase"] is None:
        row = open_side(session, name, row)
    if row["state"] != SOAKING:
        raise GenerationConflict(
            f"Switch {name} is {row['state']}, and only one that is soaking is judged.",
            hint=f"Run `grafctl consumer status {name}`.",
            switch=name,
            state=row["state"],
        )
    if row["phase"] is not None:
        raise Busy(
            f"Switch {name} is being taken back.",
            hint=f"Run `grafctl consumer rollback {name} -d {domain}`, which goes on with that.",
            switch=name,
        )
    return row


class Judge:
    """Judges one switch at one generation, as often as one likes."""

    def __init__(
        self, session: Session, name: str, row: Mapping[str, Any], domain: str, *, dry_run: bool = False
    ) -> None:
        self.session, self.name, self.row, self._dry_run = session, name, row, dry_run
        self.soak: dict[str, Any] = dict(row["soak"])
        self._comparer = comparer_of(session, name, row, domain, dry_run=dry_run)

    def judge(self) -> Judgement:
        """Compares what is new, asks the command where there is one, and judges each rule that has a limit."""
        rules = self.row["rules"]
        shadow = self._comparer.run().shadow
        numbers = numbers_at(self.session, self.name, self.row, mismatches(shadow["counts"]))
        self.soak = self.soak or begun(numbers, clock.now_ms())  # a flip that noted no numbers
        verdict = ask(rules[HEALTH_COMMAND], self.name) if HEALTH_COMMAND in rules else None
        self.soak, checks = judged(rules, self.soak, numbers, clock.now_ms(), verdict)
        if not self._dry_run:
            if not is_of_tables(self.row):
                with suppress(*FOR_NOW):  # a way back carries it too: this keeps it short, and retention going
                    carry(self.session, self.name, self.row)
            self.session.control.append(NoteSoak(self.name, self.row["generation"], self.soak))
            point("switching.judged")
        return Judgement(checks, self.soak, shadow)


def take_back(
    session: Session, name: str, row: dict[str, Any], found: Judgement, domain: str, *, drain_ms: int
) -> ProofRequired:
    """Brings a consumer back to its source because rules are broken; returns the error that says so (19)."""
    told = " ".join(found.sentences)
    why = cut(f"regression: {told}", WHY_CHARACTERS_MAX)
    try:
        row = turn(session, name, row, SOURCE, drain_ms=drain_ms, why=why)
        about = {"state": row["state"], "generation": row["generation"], "cursors": row["cursors"], "why": why}
        session.note("changed", "consumer rollback", switch=name, domain=domain, **row[SOURCE], **about)
    except GrafctlError as error:
        now = row_of(session, name)
        if now["state"] != ROLLED_BACK:
            if isinstance(error, GenerationConflict):
                raise moved_on(name, now, row["generation"]) from None
            error.fields["regression"] = found.sentences
            raise
        row = now  # somebody else was quicker
    return regression(name, row, found, f"was taken back to {row[SOURCE]['resource']}")


def regression(name: str, row: Mapping[str, Any], found: Judgement, what: str) -> ProofRequired:
    """Returns the error for a consumer that does not do well at its target (19)."""
    return ProofRequired(
        f"The consumer of switch {name} {what}: {' '.join(found.sentences)}",
        hint=f"Run `grafctl consumer report {name}` to see the records; when they are mended, switch it again.",
        reason="regression",
        switch=name,
        state=row["state"],
        generation=row["generation"],
        broken=[dict(zip(Check._fields, check, strict=True)) for check in broken(found.checks)],
    )
