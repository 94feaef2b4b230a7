"""One thread at a time: whoever has the baton runs, and one seed decides who gets it next.

Promises
- A `Process` is what dies or is stopped as a whole; a `Task` is one of its threads. Exactly one task runs at any time,
  and it gives the baton away only in `step`, where it waits, and at its end: what happens is a function of the seed.
- Time is a count of microseconds. Each step takes some; when nobody can run, it goes on to the moment at which somebody
  can. Each process sees it through a wall clock of its own, which can jump.
- A process that is killed runs no step more: each of its tasks raises `SimulatedCrash` where it stood, before anybody
  else runs, so that what the kernel of a machine gives back (locks, files) is given back at once.

When it fails
    `Stuck` is kept in `failure` where nobody can ever run again, or a run takes more than `STEPS_MAX` steps; all
    processes are killed then. So is an exception that leaves a task, with its traceback.
"""

from __future__ import annotations

import heapq
import random
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, cast

from grafctl import clock, threads
from grafctl.store.driver.faults import SimulatedCrash
from simulation.waiting import Condition, Event, Lock, Queue, Semaphore

EPOCH_MS = 1_800_000_000_000
STEPS_MAX = 40_000
STEP_US_MAX = 1_500

Predicate = Callable[[], bool]


class Stuck(Exception):
    """Nobody can go on, or nobody comes to an end."""


class Process:
    """What a machine runs: it can be killed or stopped, and has a clock."""

    __slots__ = ("is_dead", "name", "offset_ms", "stopped_until")

    def __init__(self, name: str) -> None:
        self.name = name
        self.offset_ms = 0
        self.stopped_until = 0
        self.is_dead = False


class Task:
    """A thread of a process."""

    __slots__ = ("baton", "is_done", "name", "process", "ready", "run", "scheduler", "until")

    def __init__(self, scheduler: Scheduler, process: Process, name: str, run: Callable[[], object]) -> None:
        self.scheduler, self.process, self.name, self.run = scheduler, process, name, run
        self.baton = threading.Lock()
        self.baton.acquire()
        self.ready: Predicate | None = None  # what it waits for
        self.until: int | None = None  # and until when
        self.is_done = False

    def can_run(self, now: int) -> bool:
        if self.process.stopped_until > now:
            return False
        if self.until is not None and self.until <= now:
            return True
        return self.until is None if self.ready is None else self.ready()

    def wakes_at(self) -> int | None:
        """Returns when it can run at the latest, or None where that depends on others."""
        if self.ready is None:
            return max(self.until or 0, self.process.stopped_until)
        if self.ready():
            return self.process.stopped_until
        return None if self.until is None else max(self.until, self.process.stopped_until)

    def join(self) -> None:
        if not self.is_done:
            self.scheduler.wait(lambda: self.is_done)


class _Worker:
    """A thread of this machine that runs one task after the other; starting a thread for each would cost more."""

    idle: ClassVar[list[_Worker]] = []

    def __init__(self) -> None:
        self._begin = threading.Lock()
        self._begin.acquire()
        self._task: Task | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def take(self, task: Task) -> None:
        self._task = task
        self._begin.release()

    def _work(self) -> None:
        while True:
            self._begin.acquire()
            task = self._task
            assert task is not None
            task.baton.acquire()
            task.scheduler.carry_out(task, self)


class Scheduler:
    """Runs tasks until all have ended."""

    def __init__(self, seed: int, switch: float = 0.3) -> None:
        self.random = random.Random(seed)
        self.switch = switch  # how often a step gives the baton away
        self.now_us = 0
        self.steps = 0
        self.tasks: list[Task] = []
        self.failure: str | None = None
        self.trace: list[tuple[object, ...]] = []
        self.on_step: Callable[[Task, str, str], None] | None = None
        self.on_end: Callable[[Task], None] | None = None
        self._current: Task | None = None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._events_made = 0
        self._is_somebody_dying = False
        self._over = threading.Lock()

    @property
    def current(self) -> Task:
        assert self._current is not None, "only a task may do this"
        return self._current

    # --- from outside

    def spawn(self, process: Process, name: str, run: Callable[[], object]) -> Task:
        """Adds a task, which begins when it is given the baton."""
        task = Task(self, process, name, run)
        self.tasks.append(task)
        (_Worker.idle.pop() if _Worker.idle else _Worker()).take(task)
        return task

    def at(self, when_us: int, action: Callable[[], None]) -> None:
        """Lets something happen at a time, between two steps."""
        self._events_made += 1
        heapq.heappush(self._events, (when_us, self._events_made, action))

    def run(self) -> None:
        """Runs until every task has ended; events that are due later are dropped."""
        if not self.tasks:
            return
        self._over.acquire()
        self._hand_over(self._next())
        self._over.acquire()
        self._over.release()
        self._events.clear()

    def kill(self, process: Process) -> None:
        """Lets a process die; where it is the one that runs, its next step raises."""
        self._is_somebody_dying = True
        process.is_dead = True
        process.stopped_until = 0

    # --- from a task

    def step(self, what: str, where: str = "") -> None:
        """Something of a task is about to happen; time goes by, and others may go first."""
        task = self.current
        if task.process.is_dead:
            raise SimulatedCrash(task.name)
        self.note(what, where)
        self.steps += 1
        if self.steps > STEPS_MAX:
            self._give_up(f"more than {STEPS_MAX} steps")
        self.now_us += self.random.randrange(STEP_US_MAX)
        self._happen()
        if self.on_step is not None:
            self.on_step(task, what, where)
        if task.process.is_dead:
            raise SimulatedCrash(task.name)
        if self._is_somebody_dying or task.process.stopped_until > self.now_us or self.random.random() < self.switch:
            self._give_away(task)

    def wait(self, ready: Predicate | None, timeout_s: float | None = None) -> bool:
        """Waits until `ready`, at most so long; returns whether it came to that."""
        task = self.current
        if task.process.is_dead:
            raise SimulatedCrash(task.name)
        self.note("wait")
        task.ready = ready
        task.until = None if timeout_s is None or timeout_s < 0 else self.now_us + round(timeout_s * 1_000_000)
        try:
            self._give_away(task)
        finally:
            task.ready = task.until = None
        return ready is None or ready()

    def delay(self, us: int) -> None:
        """Keeps the task that runs from going on for so long, with everything it holds."""
        self.wait(None, us / 1_000_000)

    def note(self, *what: object) -> None:
        """Adds a line to the trace."""
        self.trace.append((self.now_us, self._current.name if self._current else "", *what))

    # --- the baton

    def carry_out(self, task: Task, worker: _Worker) -> None:
        """Runs a task in its worker, and passes the baton on at its end."""
        try:
            if not task.process.is_dead:
                task.run()
        except SimulatedCrash:
            pass
        except BaseException as error:
            self._fail("".join(traceback.format_exception(error)))
        task.is_done = True
        self.tasks.remove(task)
        _Worker.idle.append(worker)
        if self.on_end is not None:
            self.on_end(task)
        following = self._next()
        if following is None:
            self._current = None
            self._over.release()
        else:
            self._hand_over(following)

    def _hand_over(self, task: Task | None) -> None:
        assert task is not None
        self._current = task
        task.baton.release()

    def _give_away(self, task: Task) -> None:
        following = self._next()
        if following is not task:
            self._hand_over(following)
            task.baton.acquire()
        if task.process.is_dead:
            raise SimulatedCrash(task.name)

    def _next(self) -> Task | None:
        """Returns who goes on; None where all have ended."""
        while self.tasks:
            dying = [task for task in self.tasks if task.process.is_dead]
            if dying:
                return dying[0]
            self._is_somebody_dying = False
            now = self.now_us
            able = [task for task in self.tasks if task.can_run(now)]
            if able:
                return able[0] if len(able) == 1 else self.random.choice(able)
            moments = [when for task in self.tasks if (when := task.wakes_at()) is not None]
            if self._events:
                moments.append(self._events[0][0])
            if moments:
                self.now_us = max(now, min(moments))
                self._happen()
            else:
                waiting = ", ".join(task.name for task in self.tasks)
                self._give_up(f"everybody waits for ever: {waiting}")
        if self._events:  # something may still begin
            self.now_us = max(self.now_us, self._events[0][0])
            self._happen()
            return self._next()
        return None

    def _happen(self) -> None:
        while self._events and self._events[0][0] <= self.now_us:
            heapq.heappop(self._events)[2]()

    def _give_up(self, why: str) -> None:
        self._fail(f"Stuck: {why}")

    def _fail(self, why: str) -> None:
        if self.failure is None:
            self.failure = why
        self._events.clear()
        self.on_end = self.on_step = None
        for task in self.tasks:
            self.kill(task.process)


class StandIn:
    """What `grafctl.clock` and `grafctl.threads` ask instead of the machine."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now_ms(self) -> int:
        return EPOCH_MS + self._scheduler.now_us // 1000 + self._scheduler.current.process.offset_ms

    def monotonic_s(self) -> float:
        return self._scheduler.now_us / 1_000_000

    def sleep(self, seconds: float) -> None:
        self._scheduler.wait(None, max(seconds, 0.000_001))

    def random_bytes(self, count: int) -> bytes:
        return self._scheduler.random.randbytes(count)

    def start(self, run: Callable[[], object]) -> Task:
        parent = self._scheduler.current
        return self._scheduler.spawn(parent.process, f"{parent.name}'", run)

    def lock(self) -> Lock:
        return Lock(self._scheduler)

    def semaphore(self, value: int) -> Semaphore:
        return Semaphore(self._scheduler, value)

    def event(self) -> Event:
        return Event(self._scheduler)

    def condition(self) -> Condition:
        return Condition(self._scheduler)

    def queue(self) -> Queue:
        return Queue(self._scheduler)


@contextmanager
def simulated(scheduler: Scheduler) -> Iterator[None]:
    """Lets the product take time, chance and threads from this scheduler inside the block."""
    source = StandIn(scheduler)
    before = clock.stand_in(source), threads.stand_in(cast(Any, source))
    try:
        yield
    finally:
        clock.stand_in(before[0])
        threads.stand_in(before[1])
