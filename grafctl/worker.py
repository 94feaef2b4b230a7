"""A worker: takes a group's records from its own domain one after another, and finishes each that was worked on.

    with grafctl.open("./store") as store:
        with grafctl.Worker(store, "orders", "billing", domain="aws/us-east-1/us-east-1a") as records:
            for record in records:
                charge(record.payload)

Asking for the next record finishes the one before. `records.nack()` gives the present one back instead, and
`records.run(charge)` is the loop in which a record that failed comes again later and the others go on.

Promises
- Nothing is acked that was not worked on: what an exception or a `break` left in the middle is given back, and so is
  what was leased and never begun, which does not count as a delivery. Others get it at once.
- Leases are renewed from a thread of their own, because the work on one record may take longer than the visibility.
  A lease that was lost all the same ends its records here: none of them is begun, and none acked.
- With `at-most-once` a record is final before it is worked on, so records are taken one by one, and each is worked on.
- What passes (no quorum, an unreachable or unhealthy domain, a paused group, a deadline) is waited for; everything else
  ends the loop: a refusal (11), an old epoch (14), damage (25).
- SIGTERM and SIGINT let the record under way finish and end the loop; a second one acts as if there were no worker.

When it fails: after SIGKILL the leased records come again when their lease runs out. An ack that no quorum took until
`STOP_S` after the signal is given up, and its records come again.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, TypeVar

from grafctl import clock
from grafctl.client import VISIBILITY_MS, Store
from grafctl.errors import Fenced, GrafctlError, Usage
from grafctl.results import Delivery, Record

HOLD_S = 1.0  # a batch is what this worker gets through in so long, that others are not kept waiting for it
IDLE_PAUSE_S = 0.02, 0.25  # between polls of an empty queue, growing
RETRY_PAUSE_S = 0.05, 2.0  # between tries while something is away, growing
STOP_S = 10.0
RETRY_MS_MAX = 300_000

T = TypeVar("T")
log = logging.getLogger("grafctl.worker")


@dataclass(slots=True)
class Batch:
    """The records of one lease, and how far the work on them is."""

    place: tuple[str, str]  # resource and group of the lease: a switch may hand out the records of another output
    lease: int | None  # None: final already (at-most-once)
    waiting: deque[Record]
    until_s: float  # monotonic; before that nobody else can have the records
    begun_s: float
    size: int
    present: Record | None = None
    worked: list[int] = field(default_factory=list)  # finished here, not acked yet
    is_lost: bool = False

    def unsettled(self) -> int:
        """Returns how many records were neither acked nor given back."""
        return len(self.worked) + (self.present is not None) + len(self.waiting)


class Worker:
    """An iterator over a group's records, to be used in a `with` block; see the module's text.

    `batch` is the most that is leased at once, `ack_every` how many finished records share one durable ack (after a
    crash so many may come again). With `idle_s` the loop ends when nothing was delivered for so long. The counts
    `acked`, `given_back` and `lost` are of this worker; `stopped_by` is the signal that stopped it.
    """

    def __init__(
        self,
        store: Store,
        resource: str,
        group: str,
        *,
        domain: str,
        batch: int = 100,
        ack_every: int = 1,
        visibility_ms: int = VISIBILITY_MS,
        idle_s: float | None = None,
        epoch: int | None = None,
    ) -> None:
        if batch < 1 or ack_every < 1:
            raise Usage("A worker takes at least one record at once, and acks after at least one.")
        self.store, self.resource, self.group, self.domain = store, resource, group, domain
        self.batch_max, self.ack_every, self.idle_s, self.epoch = batch, ack_every, idle_s, epoch
        self.visibility_ms = visibility_ms
        self.acked = self.given_back = self.lost = 0
        self.stopped_by: int | None = None
        self._stop_s: float | None = None  # when the loop was asked to end
        self._asked = 1  # how many records the next poll takes
        self._batch: Batch | None = None
        self._lock = threading.Lock()  # the batch and its lease, between the loop and the thread that renews
        self._closing = threading.Event()
        self._renewer: threading.Thread | None = None
        self._handlers: dict[int, Any] = {}
        self._idle_since_s = 0.0
        self._is_open = self._is_away = False

    # --- the block around the loop

    def __enter__(self) -> Worker:
        if self._is_open or self._closing.is_set():
            raise Usage("A worker is used once.", hint="Make another one for another loop.")
        self._is_open = True
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                former = signal.getsignal(number)
                if former not in (signal.SIG_IGN, None):
                    self._handlers[number] = former
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
            self._leave()
        except GrafctlError as failure:
            log.warning("%s; its records come again when their lease runs out", failure.message)
        finally:
            self._is_open = False
            self._closing.set()
            if self._renewer is not None:
                self._renewer.join()
            self._restore_handlers()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None:
            self._restore_handlers()
            signal.raise_signal(number)
            return
        self.stopped_by = number
        self.stop()

    def _restore_handlers(self) -> None:
        for number, former in self._handlers.items():
            signal.signal(number, former)
        self._handlers.clear()

    def stop(self) -> None:
        """Ends the loop after the record under way; may be called from any thread and from a signal handler."""
        if self._stop_s is None:
            self._stop_s = clock.monotonic_s()

    # --- the loop

    def __iter__(self) -> Worker:
        return self

    def __next__(self) -> Record:
        """Returns the next record, after finishing the one before; waits for it as long as it takes."""
        if not self._is_open:
            raise Usage(
                "A worker's records are taken inside its `with` block.",
                hint="with grafctl.Worker(store, …) as records: for record in records: …",
            )
        self._take_over()
        self.ack()
        while True:
            batch = self._batch
            if batch is not None and self._may_begin(batch):
                with self._lock:
                    if batch.waiting:
                        batch.present = batch.waiting.popleft()
                        return batch.present
            self._leave()
            if self._stop_s is not None or not self._take():
                raise StopIteration

    def run(self, work: Callable[[Record], object], *, keep_going: bool = True, retry_ms: int = 1000) -> None:
        """Works until it is stopped. A record whose work raised comes again after `retry_ms`, doubled at each delivery.

        With `keep_going=False` the first exception ends the loop, after everything was given back.
        """
        with self:
            for record in self:
                try:
                    work(record)
                except Exception:
                    if not keep_going:
                        raise
                    log.exception("offset %d of %s failed and is given back", record.offset, self.resource)
                    self.nack(delay_ms=min(retry_ms << min((record.delivery or 1) - 1, 20), RETRY_MS_MAX))

    def ack(self) -> None:
        """Finishes the present record, as asking for the next one does; useful before a `break`."""
        if (batch := self._batch) is None or batch.present is None:
            return
        with self._lock:
            batch.worked.append(batch.present.offset)
            batch.present = None
        if len(batch.worked) >= self.ack_every:
            self._settle(batch)

    def nack(self, *, delay_ms: int = 0) -> None:
        """Gives the present record back, to be delivered again after `delay_ms`; it counts as a failed delivery."""
        batch = self._batch
        if batch is None or batch.present is None:
            return
        with self._lock:
            offset, batch.present = batch.present.offset, None
        self._give_back(batch, [offset], delay_ms=delay_ms)

    # --- leases

    def _take(self) -> bool:
        """Leases the next records; returns False when the loop is to end instead."""
        pause_s, longest_s = IDLE_PAUSE_S
        self._idle_since_s = clock.monotonic_s()
        while self._stop_s is None:
            until_s = clock.monotonic_s() + self.visibility_ms / 1000
            delivery = self._persist(self._poll, is_owed=False)
            if delivery is not None and delivery.records:
                self._begin(delivery, until_s)
                return True
            if self.idle_s is not None and clock.monotonic_s() - self._idle_since_s >= self.idle_s:
                return False
            self._sleep(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)
        return False

    def _take_over(self) -> None:
        """Acks the end of a batch in the commit that leases the next one, where both can be had at once."""
        batch = self._batch
        if batch is None or batch.lease is None or batch.waiting or self._stop_s is not None or not batch.unsettled():
            return
        with self._lock:  # taken out first, as in `_settle`
            offsets, batch.worked = batch.worked + ([batch.present.offset] if batch.present else []), []
            batch.present = None
        asked, until_s = self._asked, clock.monotonic_s() + self.visibility_ms / 1000
        self._pace(batch)
        try:
            delivery = self._poll(*batch.place, finish=offsets, lease=batch.lease)
        except Fenced as error:
            self._lose(batch, offsets, error)
        except BaseException as error:
            batch.worked, self._asked = offsets, asked
            if not isinstance(error, GrafctlError):  # what is in the way, an ack of its own meets again and waits for
                raise
        else:
            self.acked += len(offsets)
            self._batch = None
            if delivery.records:
                self._begin(delivery, until_s)

    def _begin(self, delivery: Delivery, until_s: float) -> None:
        """Makes a delivery the present batch, whose lease is renewed from now on."""
        records = deque(delivery.records)
        place = delivery.resource, delivery.group
        self._batch = Batch(place, delivery.lease, records, until_s, clock.monotonic_s(), len(records))
        if delivery.lease is not None and self._renewer is None:
            self._renewer = threading.Thread(target=self._renew_in_time, name="grafctl-renew", daemon=True)
            self._renewer.start()

    def _poll(self, resource: str = "", group: str = "", **finish: Any) -> Delivery:
        finish |= {"domain": self.domain, "visibility_ms": self.visibility_ms, "epoch": self.epoch}
        return self.store.poll(resource or self.resource, group or self.group, max=self._asked, **finish)

    def _renew_in_time(self) -> None:
        """Renews the lease of the present batch whenever a third of it is over, until the block ends."""
        third_s = self.visibility_ms / 3000
        while not self._closing.wait(third_s / 2):
            batch = self._batch
            if batch is None or batch.lease is None or batch.until_s - clock.monotonic_s() > 2 * third_s:
                continue
            try:
                self._renew(batch)
            except GrafctlError as error:  # the loop meets the same error at its own next step
                log.info("lease %d could not be renewed: %s", batch.lease, error.message)

    def _renew(self, batch: Batch) -> None:
        assert batch.lease is not None
        asked_s = clock.monotonic_s()
        with self._lock:
            if batch.is_lost or not batch.unsettled():
                return
        try:
            self.store.renew(*batch.place, batch.lease, domain=self.domain, visibility_ms=self.visibility_ms)
        except Fenced as error:
            self._lose(batch, [], error)
        else:
            batch.until_s = asked_s + self.visibility_ms / 1000

    def _lose(self, batch: Batch, offsets: list[int], error: Fenced) -> None:
        """Forgets what is left of a lease that is over; the records come again, here or elsewhere."""
        if "epoch" in error.fields:  # not this lease but this worker is over
            raise error
        with self._lock:
            left = len(offsets) if batch.is_lost else len(offsets) + batch.unsettled()
            batch.waiting.clear()
            batch.worked.clear()
            batch.is_lost |= left > 0
            self.lost += left
        if left:
            log.warning("lease %s is over; %d of its records in %s come again", batch.lease, left, self.resource)

    def _may_begin(self, batch: Batch) -> bool:
        """Returns whether the next record may be begun; a lease that should be over by now is renewed first."""
        if batch.lease is None:
            return True  # it is final, and would be lost if it were not worked on
        if self._stop_s is None and batch.waiting and clock.monotonic_s() >= batch.until_s:
            self._persist(lambda: self._renew(batch), is_owed=False)
        return self._stop_s is None and clock.monotonic_s() < batch.until_s

    def _settle(self, batch: Batch) -> None:
        """Acks what was worked on."""
        with self._lock:  # taken out first: an ack of all that is left ends the lease, which is then not lost
            offsets, batch.worked = batch.worked, []
        if not offsets:
            return
        try:
            if batch.lease is not None:
                caller = self._caller(batch)
                self._persist(lambda: self.store.ack(*batch.place, offsets, **caller))
            self.acked += len(offsets)
        except Fenced as error:
            self._lose(batch, offsets, error)
        except BaseException:
            batch.worked = offsets + batch.worked
            raise

    def _leave(self) -> None:
        """Acks what was worked on and gives back the rest of the batch."""
        if (batch := self._batch) is None:
            return
        try:
            self._settle(batch)
            self.nack()
            with self._lock:
                offsets = [record.offset for record in batch.waiting]
                batch.waiting.clear()
            self._give_back(batch, offsets, counted=False)
            self._pace(batch)
        finally:
            self._batch = None

    def _give_back(self, batch: Batch, offsets: list[int], **how: Any) -> None:
        if not offsets or batch.lease is None or batch.is_lost:
            return
        (resource, group), caller = batch.place, self._caller(batch)
        try:
            self._persist(lambda: self.store.nack(resource, group, offsets, **caller, **how))
            self.given_back += len(offsets)
        except Fenced as error:
            self._lose(batch, offsets, error)

    def _caller(self, batch: Batch) -> dict[str, Any]:
        return {"domain": self.domain, "lease": batch.lease, "epoch": self.epoch}

    def _pace(self, batch: Batch) -> None:
        """Makes the next batch what is worked on in about `HOLD_S`; one, where a delivery is final."""
        took_s = clock.monotonic_s() - batch.begun_s
        fits = int(HOLD_S * batch.size / took_s) if took_s > 0 else self.batch_max
        self._asked = 1 if batch.lease is None else max(1, min(self.batch_max, 2 * self._asked, fits))

    # --- waiting

    def _persist(self, step: Callable[[], T], *, is_owed: bool = True) -> T | None:
        """Returns what the step returns, tried again while its failure is one that passes.

        When the loop is to end, a step that is owed is tried for `STOP_S` more; for another, None is returned.
        """
        pause_s, longest_s = RETRY_PAUSE_S
        while True:
            try:
                found = step()
            except GrafctlError as error:
                stopping_s = 0.0 if self._stop_s is None else clock.monotonic_s() - self._stop_s
                if not error.as_json()["retryable"] or stopping_s > STOP_S:
                    raise
                if stopping_s and not is_owed:
                    return None
                if not self._is_away:
                    log.warning("%s Waiting for it.", error.message)
                self._is_away = True
            else:
                if self._is_away:
                    log.warning("%s is served again in %s", self.resource, self.domain)
                self._is_away = False
                return found
            self._sleep(clock.jitter_s(pause_s) + pause_s / 2)
            pause_s = min(pause_s * 2, longest_s)
            self._idle_since_s = clock.monotonic_s()

    def _sleep(self, seconds: float) -> None:
        """Waits in short steps, because a signal only sets a mark; a wait that began before the signal ends with it."""
        until_s = clock.monotonic_s() + seconds
        was_stopping = self._stop_s is not None
        while (left_s := until_s - clock.monotonic_s()) > 0 and (self._stop_s is not None) == was_stopping:
            clock.sleep(min(left_s, 0.05))
