"""The input of a stage: records leased from its group, one batch at a time, and what ends their lease.

Promises
- A batch is held as long as its work lasts: the lease is renewed in between, by the thread that works.
- What was finished by a sink, and so is not part of a larger change, is acked with the lease of the next batch: one
  entry for both. `leave` acks it by itself.
- A batch whose work failed for now (no quorum, say) is given out again by the next `take`, less what was finished.
- A lease that is over ends its batch: nothing of it is finished here, and its records come again.
- Where a switch hands out the records of another output, all that ends their lease goes to the group there. A stage
  that may not follow it (`following.py`) gives them back and is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from grafctl import clock
from grafctl.errors import Fenced, GrafctlError
from grafctl.pipeline.message import Message
from grafctl.pipeline.model import DeclaredStage
from grafctl.pipeline.stages.publishing import message_of, place_id
from grafctl.pipeline.stages.work import Counts, Place
from grafctl.results import Delivery, Record
from grafctl.store import keys
from grafctl.store.driver.kill import point
from grafctl.store.intervals import from_offsets, size
from grafctl.store.operations.polling import ack, nack, poll, renew
from grafctl.store.operations.stepping import Change
from grafctl.store.replica.state import State
from grafctl.store.resources.burying import Bury
from grafctl.store.resources.delivery import Lineage
from grafctl.store.resources.group import Caller, Finalise, group_row
from grafctl.store.session import Session
from grafctl.store.switch_match import ID

if TYPE_CHECKING:
    from grafctl.store.operations.switching.routed import Reads


class Input:
    """One group's records, for one stage of one process; `resource` and `group` are those of the lease."""

    def __init__(self, place: Place, stage: DeclaredStage, counts: Counts) -> None:
        assert stage.input is not None
        self._counts, self._stage = counts, stage
        self._own = stage.input, stage.group
        self._followed: object = None  # the way to another output, once the stage may go it
        self._is_refused = False  # it may not
        self._has_other_ids = self._is_by_place = False
        self.place, self.resource, self.group, self.batch = place, stage.input, stage.group, stage.batch
        self.lease: int | None = None
        self._records: list[Record] = []  # of the lease
        self._open: list[int] = []  # offsets of the lease that nothing became of yet
        self._done: list[int] = []  # finished here, to be acked with the next poll
        self._renew_at_s = 0.0

    def work_on(self, work: Callable[[Sequence[Record]], None]) -> bool:
        """Takes a batch and works on it; returns whether there was one. A lease that is lost meanwhile is counted."""
        try:
            records = self.take()
            if not records:
                return False
            point("stage.leased")
            work(records)
        except GrafctlError as error:
            if not is_lost_lease(error):
                raise
            self._counts.lost += self.lost()
        return True

    def take(self) -> list[Record]:
        """Returns what is left of a batch that failed, or the next one; what was done is finished by the same entry."""
        if self._open:
            self.hold()
            left = set(self._open)
            return [record for record in self._records if record.offset in left]
        if self._is_refused:  # before anything is leased again
            self._follow()
        asked_s = clock.monotonic_s()
        at = (self.place.session, *self._own, self.place.domain, self.batch, self.place.visibility_ms)
        lease = self.lease if self._done else None
        delivery = poll(*at, None, finish=self._done, lease=lease, held_at=(self.resource, self.group))
        self._done = []
        self.lease, self.resource, self.group = delivery.lease, delivery.resource, delivery.group
        self._is_by_place = delivery.switch is not None and self._pass_switch(delivery)
        self._records = delivery.records
        self._open = [record.offset for record in delivery.records]
        self._counts.read += len(self._open)
        self._renew_at_s = asked_s + self.place.visibility_ms / 3000
        return delivery.records

    def _pass_switch(self, delivery: Delivery) -> bool:
        """Returns whether what a switch handed out is named after where it stands; raises where it is not for this
        stage, and gives it back."""
        way = self.place.session.routes.get(self._own)
        at = delivery.resource, delivery.group
        if at != self._own and (way is None or way is not self._followed):
            try:
                found = self._follow(at)
            except GrafctlError:
                self._open = [record.offset for record in delivery.records]
                self.leave()
                raise
            self._followed, self._has_other_ids = way, found is not None and found.row["match"] != ID
        self._counts.switch, self._counts.reads = delivery.switch, delivery.resource
        return at != self._own and self._has_other_ids

    def _follow(self, at: tuple[str, str] | None = None) -> Reads | None:
        """Returns what the stage reads through a switch; raises where it may not read the output at which its consumer
        is now, or was when it was given records of this group."""
        from grafctl.pipeline.stages.following import pass_follow

        self._is_refused = True
        found = pass_follow(self.place, self._stage, at)
        self._is_refused = False
        return found

    def hold(self) -> None:
        """Renews the lease where a third of it is over; raises `Fenced` where it is lost."""
        if self.lease is None or clock.monotonic_s() < self._renew_at_s:
            return
        asked_s = clock.monotonic_s()
        place = self.place
        renew(place.session, self.resource, self.group, self.lease, place.domain, place.visibility_ms)
        self._renew_at_s = asked_s + place.visibility_ms / 3000

    def changes(self, offsets: list[int], letters: list[tuple[int, str]]) -> list[Change]:
        """Returns what finishes these records and puts those aside, for a step that changes other things as well."""
        assert self.lease is not None
        place = self.place
        caller = Caller(self.resource, self.group, place.domain, None, place.session.cluster.knows(place.domain))
        found = []
        if offsets:
            request = Finalise(caller, from_offsets(offsets), self.lease, all_held=True)
            found.append(Change(self.resource, request))
        if letters:
            found.append(Change(self.resource, Bury(caller, letters, self.lease)))
        return found

    def settled(self, offsets: list[int]) -> None:
        """Notes that a step has finished these."""
        gone = set(offsets)
        self._open = [offset for offset in self._open if offset not in gone]

    def done(self, offsets: list[int]) -> None:
        """Notes that these are finished elsewhere, and are to be acked with the next batch."""
        self.settled(offsets)
        self._done += offsets

    def lost(self) -> int:
        """Forgets a lease that is over; returns how many of its records nothing became of here."""
        count = len(self._open) + len(self._done)
        self._open, self._done, self.lease = [], [], None
        return count

    def leave(self) -> None:
        """Acks what was done, and gives back the rest as if it had never been delivered."""
        place, lease = self.place, self.lease
        done, rest, self._done, self._open = self._done, self._open, [], []
        try:
            if done:
                ack(place.session, self.resource, self.group, done, place.domain, lease, None)
            if rest:
                nack(place.session, self.resource, self.group, rest, place.domain, lease, 0, None, counted=False)
        except Fenced:
            pass  # the lease is over, and they come again
        finally:
            self.lease = None

    def is_idle(self) -> bool:
        """Returns whether every record is finished or put aside; what others hold is not."""
        return not self._done and not self._open and is_finished_for(self.place.session, *self._own)

    def message(self, record: Record, value: object) -> Message:
        """Returns what a transform sees of a record."""
        return message_of(record, value)

    def name_of(self, record: Record) -> str:
        """Returns what names a record for ever, and so what is made of it. Where a switch does not match by the id, an
        id at the other output may be that of other work, and a record of that is named after where it stands."""
        if record.id is None or self._is_by_place:
            return place_id(self.resource, record)
        return record.id

    def place_of(self, record: Record) -> str:
        """Returns how a sentence calls the place of a record."""
        return f"offset {record.offset} of {self.resource}"


def is_finished_for(session: Session, resource: str, group: str) -> bool:
    """Returns whether every record of a resource is finished for a group, or put aside; where a switch says what the
    consumer reads, of the output that is open."""
    with session.state(resource) as state:
        is_done = _is_done(state, resource, group)
        is_attached = "switch" in group_row(state, resource, group)
    if not is_attached:
        return is_done
    from grafctl.store.operations.switching.routed import reads

    found = reads(session, resource, group)
    if found is None or not found.is_open:
        return False  # it is between the two
    with session.state(found.resource) as state:
        return _is_done(state, found.resource, found.group)


def _is_done(state: State, resource: str, group: str) -> bool:
    lineage = Lineage.of(state.get_json(keys.lineage(group_row(state, resource, group)["lineage"])))
    published: int = state.get_json(keys.queue())["next"]
    return lineage.floor + size(lineage.done) + size(lineage.dead) >= published


class Records(Protocol):
    """What a stage reads: the records of a group, or of an edge."""

    resource: str

    def work_on(self, work: Callable[[Sequence[Record]], None]) -> bool: ...
    def message(self, record: Record, value: object) -> Message: ...
    def name_of(self, record: Record) -> str: ...
    @abstractmethod
    def place_of(self, record: Record) -> str: ...
    def hold(self) -> None: ...
    def changes(self, offsets: list[int], letters: list[tuple[int, str]]) -> list[Change]: ...
    def settled(self, offsets: list[int]) -> None: ...
    def done(self, offsets: list[int]) -> None: ...
    def is_idle(self) -> bool: ...
    def leave(self) -> None: ...


class Closing(Protocol):
    """What a stage holds open besides its lease."""

    def close(self) -> None: ...


class ReadingStage(ABC):
    """A stage that reads an input; what it does with a batch is its own."""

    def __init__(self, place: Place, declared: DeclaredStage, held: Closing) -> None:
        self.place, self.declared, self.counts = place, declared, Counts()
        self._input = self._open_input()
        self._held = held

    def _open_input(self) -> Records:
        if self.place.pipeline.edge(self.declared.input) is None:
            return Input(self.place, self.declared, self.counts)
        from grafctl.pipeline.stages.behind_edges import EdgeInput

        return EdgeInput(self.place, self.declared, self.counts)

    @abstractmethod
    def _work(self, records: Sequence[Record]) -> None:
        """Does a batch; raises `Fenced` where its lease is lost."""

    def step(self) -> bool:
        return self._input.work_on(self._work)

    def is_finished(self) -> bool:
        return False

    def is_idle(self) -> bool:
        return self._input.is_idle()

    def leave(self) -> None:
        try:
            self._input.leave()
        finally:
            self._held.close()

    def interrupt(self) -> None:
        return  # nothing here waits


def is_lost_lease(error: GrafctlError) -> bool:
    """Returns whether an error says that a lease is over, rather than that this caller is."""
    return isinstance(error, Fenced) and "epoch" not in error.fields
