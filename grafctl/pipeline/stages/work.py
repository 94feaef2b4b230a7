"""What all stages have in common: where they run, what they count, what became of each record, and why one stops.

Promises
- A stage is `step` after `step`; between two of them it holds at most a lease and an open sink, and `leave` gives both
  back. A crash between any two lines leaves what the store's and the sink's own transactions leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from grafctl.errors import DomainUnavailable, GrafctlError, SchemaMismatch
from grafctl.pipeline.model import STOP, DeclaredStage, Pipeline
from grafctl.store.session import Session

VISIBILITY_MS = 60_000
BYTES_AIM = 8 << 20  # of what one entry of a stage publishes; more is committed in several
RECORD_BYTES_MAX = 32 << 20  # of all that comes of one record: it is one entry, with what else is in it


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage runs: an open store, and the caller's domain."""

    session: Session
    pipeline: Pipeline
    domain: str
    visibility_ms: int = VISIBILITY_MS


@dataclass(slots=True)
class Counts:
    """What a stage has done in this process, in records."""

    read: int = 0
    written: int = 0  # published, or rows that are new
    replayed: int = 0  # found there already, and so without a second effect
    filtered: int = 0  # read, and by the definition of the stage nothing comes of them
    refused: int = 0  # dead letters, each with its reason
    lost: int = 0  # leases that ended before their records were finished; these come again
    switch: str | None = None  # to which the group is attached that the stage reads with
    reads: str | None = None  # and the output of which its last records were

    def fields(self) -> dict[str, Any]:
        """Returns the counts, and with a switch what is read through it."""
        routed = {} if self.switch is None else {"switch": self.switch, "reads": self.reads}
        return routed | {
            "read": self.read,
            "written": self.written,
            "replayed": self.replayed,
            "filtered": self.filtered,
            "refused": self.refused,
            "lost": self.lost,
        }


class Letter(NamedTuple):
    """A record that is refused: where it stands, and why."""

    at: int  # its place in the batch
    reason: str
    error: GrafctlError | None = None  # what the store said, where it was the store


class Stage(Protocol):
    """A stage at work in one process."""

    declared: DeclaredStage
    counts: Counts

    def step(self) -> bool:
        """Does the next batch; returns whether there was one."""
        ...

    def is_finished(self) -> bool:
        """Returns whether nothing will ever come again: its source has ended."""
        ...

    def is_idle(self) -> bool:
        """Returns whether nobody has unfinished work of this stage, neither here nor in another process."""
        ...

    def leave(self) -> None:
        """Gives back what the stage holds."""
        ...

    def interrupt(self) -> None:
        """Ends a wait for input soon; may be called in a signal handler."""
        ...


def pass_stage(place: Place, stage: DeclaredStage) -> None:
    """Raises `DomainUnavailable` (11), which is audited, where a stage may not run in the caller's domain."""
    known = place.session.cluster.knows(place.domain)
    allowed, line = stage.placement.decide(place.domain)
    if known and allowed:
        return
    why = f"the stage does not allow it ({line})" if known else "the store does not know this domain"
    with place.session.audited("pipeline run", stage=stage.name):
        raise DomainUnavailable(
            f"{place.domain} may not run {stage.name}: {why}.",
            reason="not_in_placement",
            hint=f"Run `grafctl pipeline plan {place.pipeline.file}` to see where each stage may run, and why.",
            stage=stage.name,
            domain=place.domain,
            allowed=list(stage.placement.allow),
            denied=list(stage.placement.deny) or None,
            by=line,
        )


def stopped(stage: DeclaredStage, where: str, letter: Letter) -> GrafctlError:
    """Returns the error that ends a stage whose `on_error` is `stop`, at the record that it could not work on."""
    if letter.error is not None:
        error = letter.error
        return type(error)(f"Stage {stage.name} stopped at {where}: {letter.reason}", hint=error.hint, **error.fields)
    return SchemaMismatch(
        f"Stage {stage.name} stopped at {where}: {letter.reason}",
        hint='Mend the record or the stage; with on_error = "dead-letter" it goes aside with its reason instead.',
        stage=stage.name,
    )


def stops(stage: DeclaredStage) -> bool:
    return stage.on_error == STOP


class Sorted(NamedTuple):
    """The records of a batch by what becomes of them, as places in it."""

    kept: list[int]
    aside: list[Letter]
    stop: Letter | None  # at which the stage is to stop; nothing behind it is kept


def sort_out(stage: DeclaredStage, count: int, letters: Sequence[Letter]) -> Sorted:
    """Returns what becomes of each of so many records, of which those of the letters are refused."""
    refused = {letter.at: letter for letter in letters}
    if stops(stage) and refused:
        stop = min(refused)
        return Sorted(list(range(stop)), [], refused[stop])
    return Sorted([at for at in range(count) if at not in refused], [refused[at] for at in sorted(refused)], None)
