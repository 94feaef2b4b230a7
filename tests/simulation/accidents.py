"""What goes wrong in a history: every fault of the matrix that memory can have, as often as the seed says.

Promises
- A history has some kinds of fault and not others, so that each is seen alone and in company.
- Whatever breaks what the protocol promises to survive (bytes that change, an older copy) happens to one domain at
  most, and only where the others can go on without it.
- `heal` ends all that can end: afterwards nothing new goes wrong, and everybody must come to an end.
- `counts` has what really happened, not what was meant to.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import NamedTuple

from grafctl.store.driver import faults
from grafctl.store.driver.faults import COMMIT_BEFORE, GET, READ_BEGIN, SCAN, WRITE_BEGIN, Fault, Kind
from grafctl.store.driver.memory import MemoryDriver
from simulation.damage import Damage
from simulation.scheduler import Process, Scheduler, Task
from simulation.stores import Ground

SECOND_US = 1_000_000
DAY_MS = 86_400_000
AWAY_US = 15 * SECOND_US  # longer than anybody waits for a commit that was on its way
UNREACHABLE, FULL = Fault(Kind.UNREACHABLE), Fault(Kind.FULL)
LOST = {applied: Fault(Kind.OUTCOME_UNKNOWN, applied=applied) for applied in (False, True)}
KINDS = ("kill", "stop", "slow", "jump", "outage", "cut off", "io error", "full", "damage")
# What may happen beside a domain that comes back as an older copy. What two voters of three held is held by one of them
# then, which must not be away: that would be two faults where the store is made for one.
BESIDE_AN_OLD_COPY = ("kill", "jump")
# How often one begins, for each step.
RATES = {
    "kill": 0.006,
    "stop": 0.004,
    "slow": 0.01,
    "jump": 0.004,
    "outage": 0.008,
    "cut off": 0.006,
    "io error": 0.01,
    "full": 0.004,
    "damage": 0.004,
    "put back": 0.01,
}


class Spell(NamedTuple):
    """A time in which a domain does not do what it should for some."""

    fault: Fault
    until: int
    process: Process | None  # None: for everybody
    steps: frozenset[str]


class Accidents:
    """The faults of one history."""

    def __init__(self, scheduler: Scheduler, ground: Ground, domains: tuple[str, ...], can_damage: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.is_over = False
        self.damage = Damage(scheduler.random, ground, domains)
        self._scheduler = scheduler
        self._ground = ground
        self._domains = domains
        self._spells: dict[str, list[Spell]] = {domain: [] for domain in domains}
        random = scheduler.random
        kinds = [kind for kind in KINDS if kind != "damage" or can_damage]
        self.kinds = sorted(random.sample(kinds, random.choice((0, 1, 1, 2, 2, 3, 4, len(kinds)))))
        self._has_put_back = False
        if can_damage and random.random() < 0.15:
            self.kinds = ["put back", *sorted(random.sample(BESIDE_AN_OLD_COPY, random.randint(0, 2)))]
        self._rate = sum(RATES[kind] for kind in self.kinds)
        self._weights = [RATES[kind] for kind in self.kinds]
        scheduler.on_step = self._strike

    @property
    def can_damage(self) -> bool:
        return "damage" in self.kinds or "put back" in self.kinds

    @property
    def damaged(self) -> frozenset[str]:
        return self.damage.domains

    def heal(self) -> None:
        """Ends what can end, for good."""
        if self.is_over:
            return
        self.is_over = True
        for domain in self._domains:
            if domain not in self.damaged or not self._has_put_back:  # what is away as new must come back as old
                self._driver.restore(self._ground.path(domain))
            self._spells[domain].clear()
        for task in self._scheduler.tasks:
            task.process.stopped_until = 0
        self._scheduler.note("healed")

    @property
    def _driver(self) -> MemoryDriver:
        return self._ground.driver

    # --- at each step

    def _strike(self, task: Task, step: str, domain: str) -> None:
        random = self._scheduler.random
        if self.is_over or random.random() >= self._rate:
            return
        kind = random.choices(self.kinds, self._weights)[0]
        if getattr(self, "_" + kind.replace(" ", "_"))(random, task, step, domain):
            self.counts[kind] += 1
            self._scheduler.note("fault", kind, domain)

    def plan(self, process: Process) -> faults.Plan:
        """Returns what goes wrong at the steps of one process; the answer of a driver that is asked at each of them."""

        def plan(domain: str, step: str, count: int) -> Fault | None:
            if step in (GET, SCAN) or not (spells := self._spells[domain]):
                return None
            now = self._scheduler.now_us
            spells[:] = [spell for spell in spells if spell.until > now]
            for spell in spells:
                if step in spell.steps and spell.process in (None, process):
                    if spell.fault.kind is Kind.OUTCOME_UNKNOWN:  # once
                        spells.remove(spell)
                    return spell.fault
            return None

        return plan

    def _begin(self, domain: str, fault: Fault, us: int, process: Process | None, *steps: str) -> bool:
        self._spells[domain].append(Spell(fault, self._scheduler.now_us + us, process, frozenset(steps)))
        return True

    # --- the kinds; each returns whether it happened

    def _kill(self, random: Random, task: Task, step: str, domain: str) -> bool:
        self._scheduler.kill(task.process)
        return True

    def _stop(self, random: Random, task: Task, step: str, domain: str) -> bool:
        task.process.stopped_until = self._scheduler.now_us + _long(random, 60)
        return True

    def _slow(self, random: Random, task: Task, step: str, domain: str) -> bool:
        self._scheduler.delay(_long(random, 6))
        return True

    def _jump(self, random: Random, task: Task, step: str, domain: str) -> bool:
        task.process.offset_ms += random.randint(-DAY_MS, DAY_MS)
        return True

    def _outage(self, random: Random, task: Task, step: str, domain: str) -> bool:
        path = self._ground.path(random.choice(self._domains))
        if self._driver.is_failed(path):
            return False
        self._driver.fail(path)
        self._scheduler.at(self._scheduler.now_us + _long(random, 30), lambda: self._driver.restore(path))
        return True

    def _cut_off(self, random: Random, task: Task, step: str, domain: str) -> bool:
        """One process does not reach a domain, or only for writing; the others do."""
        steps = random.choice(((READ_BEGIN, WRITE_BEGIN), (WRITE_BEGIN,), (COMMIT_BEFORE,)))
        return self._begin(random.choice(self._domains), UNREACHABLE, _long(random, 20), task.process, *steps)

    def _io_error(self, random: Random, task: Task, step: str, domain: str) -> bool:
        """The next commit of this process there has an outcome that it does not learn."""
        fault = LOST[random.random() < 0.5]
        where = domain or random.choice(self._domains)
        return self._begin(where, fault, 5 * SECOND_US, task.process, COMMIT_BEFORE)

    def _full(self, random: Random, task: Task, step: str, domain: str) -> bool:
        return self._begin(random.choice(self._domains), FULL, _long(random, 20), None, COMMIT_BEFORE)

    def _put_back(self, random: Random, task: Task, step: str, domain: str) -> bool:
        """A domain goes away, and is brought back from an old backup, or empty."""
        if self._has_put_back:
            return False
        self._has_put_back = True
        where, kind = self.damage.put_back()

        def come_back() -> None:
            self.damage.come_back(kind)
            self._scheduler.note("came back", where, kind)

        self._scheduler.at(self._scheduler.now_us + AWAY_US, come_back)
        self.counts[kind] += 1
        return True

    def _damage(self, random: Random, task: Task, step: str, domain: str) -> bool:
        kind = self.damage.strike()
        if kind is None:
            return False
        self.counts[kind] += 1
        return True


def _long(random: Random, seconds_max: float) -> int:
    """Returns some microseconds: often few, sometimes up to `seconds_max`."""
    return round(SECOND_US * seconds_max * random.random() ** 3) + 1000
