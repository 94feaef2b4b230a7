"""I8: from every reachable state a fresh client gets its record committed within two elections, or has a reason not to.

The client is deterministic and follows the product's own recovery (`grafctl/store/log.py`, `elect.py`): look at the
heads; append where the newest START leads unless it is away or somebody reachable has promised a newer term; else
promise, choose, START, and copy. It is tried with every set of replicas that can be reached while both quorums of
each voter set in force are.

Promises
- The only legal block is on payloads: a payload holder is away, and the others cannot show that what it may hold is
  not committed.
- States with the same replicas are tried once: the processes make no difference to somebody new.

When it fails: `Liveness.visit` returns a sentence that begins with I8.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from grafctl.store.rules import Config, Member, Promise, Term
from model.elector import Elector, answer_of, choose, next_config
from model.explorer import Result, explore
from model.process import put
from model.setting import Setting
from model.state import Entry, Log, Replica, State, head_of, place_of
from model.tables import DATA
from model.transactions import ALARM, Source, append, copy, promise, start, with_ack

FRESH = "fresh"  # key and author of the client's record
UID = 99
ELECTIONS_MAX = 2
TRIES_MAX = 4


class Lead(NamedTuple):
    """What the client knows of the term in force."""

    log: Log  # the best that it saw
    known: int
    tails: tuple[tuple[Member, int], ...]

    @property
    def config(self) -> Config:
        return self.log.configs[-1]


class Liveness:
    """A visitor of states for `explore`."""

    def __init__(self, setting: Setting, *, ignores_promises: bool = False) -> None:
        self.setting = setting
        self.ignores_promises = (
            ignores_promises  # the rule as it was first written: only the primary's own promise counts
        )
        self.tried: set[tuple[Replica, ...]] = set()
        self.recoveries = 0
        self.blocked = 0

    def visit(self, state: State) -> str | None:
        """Returns how a fresh client fails to make progress from this state, or None."""
        if state.replicas in self.tried:
            return None
        self.tried.add(state.replicas)
        domains = [replica.domain for replica in state.replicas]
        for size in range(len(domains), 0, -1):
            for reachable in combinations(domains, size):
                wrong = self._try(state, frozenset(reachable))
                if wrong:
                    return f"I8 reaching {''.join(reachable)}, {wrong}: {[r.log for r in state.replicas]}"
        return None

    def _try(self, state: State, reachable: frozenset[str]) -> str | None:
        elections, last = 0, ""
        for _ in range(TRIES_MAX):
            lead = self._observe(state, reachable)
            if lead is None or not self._has_quorums(state, lead, reachable):
                return None  # nothing is promised here
            self.recoveries += elections == 0
            if not self._can_append(state, lead, reachable):
                elections += 1
                if elections > ELECTIONS_MAX:
                    return f"more than {ELECTIONS_MAX} elections are needed"
                outcome = self._elect(state, reachable)
                if isinstance(outcome, str):
                    last = outcome
                    if outcome == "payload":
                        self.blocked += 1
                        return None if self._holder_is_away(state, lead, reachable) else "payloads block, all are here"
                    continue
                state, lead = outcome
            state, done = self._publish(state, lead, reachable)
            if done:
                return None
        return f"no progress after {TRIES_MAX} tries {last}".rstrip()

    # --- the steps of the client

    def _observe(self, state: State, reachable: frozenset[str]) -> Lead | None:
        sights = [r for r in state.replicas if r.domain in reachable and not r.learning and r.log.configs]
        if not sights:
            return None
        best = max(sights, key=lambda replica: (replica.log.acc, replica.log.length)).log
        same = [replica for replica in sights if replica.log.acc == best.acc]
        tails = tuple((replica.member, replica.log.length) for replica in same)
        known = max(replica.commit for replica in same)
        return Lead(best, self.setting.rules.committed_up_to(best.configs, dict(tails), known), tails)

    def _force(self, lead: Lead) -> list[Config]:
        return self.setting.rules.in_force(lead.log.configs, lead.known)

    def _has_quorums(self, state: State, lead: Lead, reachable: frozenset[str]) -> bool:
        rules = self.setting.rules
        there = {replica.member for replica in state.replicas if replica.domain in reachable}
        force = self._force(lead)
        return rules.lacks_promises(force, there) is None and rules.lacks_holders(force, there) is None

    def _can_append(self, state: State, lead: Lead, reachable: frozenset[str]) -> bool:
        domain = lead.config.primary
        if domain not in reachable:
            return False
        primary = state.replicas[place_of(state, domain)]
        if primary.log.acc != lead.log.acc:
            return False
        if not self.setting.rules.may_append(head_of(primary), lead.config, primary.member):
            return False
        voters = {voter.domain for config in self._force(lead) for voter in config.voters} & reachable
        newest = max(replica.promised for replica in state.replicas if replica.domain in voters)
        return self.ignores_promises or newest <= lead.log.acc

    def _elect(self, state: State, reachable: frozenset[str]) -> str | tuple[State, Lead]:
        """Promises everywhere, chooses, and starts; returns the refusal, or the state and the new lead."""
        setting = self.setting
        asked = [replica for replica in state.replicas if replica.domain in reachable]
        term = setting.rules.next_term([r.promised for r in asked] + [r.log.acc for r in asked], UID)
        given: list[tuple[Promise, Log]] = []
        for replica in asked:
            after = promise(setting, replica, term)
            if after is not None:
                given.append(answer_of(setting, replica))
                state = put(state, 0, state.processes[0], place_of(state, replica.domain), after)
        choice, known = choose(setting, [p for p, _ in given], [log.configs for _, log in given])
        if choice.refusal:
            return choice.refusal
        place = place_of(state, choice.candidates[0])
        replica = state.replicas[place]
        config = next_config(Elector(UID, term=term), replica.log, replica.domain)
        started = start(setting, replica, term, replica.log.length, config)
        if started is None:
            return "no_start"
        lead = Lead(started.log, known, ((started.member, started.log.length),))
        return put(state, 0, state.processes[0], place, started), lead

    def _publish(self, state: State, lead: Lead, reachable: frozenset[str]) -> tuple[State, bool]:
        """Appends at the primary and copies to all others; returns whether the record is committed."""
        setting = self.setting
        place = place_of(state, lead.config.primary)
        replica = state.replicas[place]
        if FRESH not in replica.log.positions:
            after = append(setting, replica, Entry(replica.log.acc, DATA, FRESH, FRESH))
            if after is None:
                return state, False
            state, replica = put(state, 0, state.processes[0], place, after), after
        term: Term = replica.log.acc
        source = Source(
            term, replica.log, max(lead.known, replica.commit), with_ack((), replica.member, replica.log.length)
        )
        voters = {voter.member for config in self._force(lead) for voter in config.voters}
        for place, other in enumerate(state.replicas):
            if other.domain not in reachable or other.member not in voters or other.member == replica.member:
                continue
            copied = copy(setting, other, source, source.log.length)
            if copied is not None and copied != ALARM:
                state = put(state, 0, state.processes[0], place, copied)
                source = source._replace(acks=with_ack(source.acks, other.member, source.log.length))
        reached = setting.rules.committed_up_to(source.log.configs, dict(source.acks), source.known)
        return state, reached >= source.log.length

    def _holder_is_away(self, state: State, lead: Lead, reachable: frozenset[str]) -> bool:
        there = {replica.member for replica in state.replicas if replica.domain in reachable}
        return any(
            voter.member not in there and not voter.witness for config in self._force(lead) for voter in config.voters
        )


def applies_to(setting: Setting) -> bool:
    """Returns whether COPY reaches every voter, and no replica is an old copy: the client cannot repair that."""
    return not setting.floor and not setting.detection


def check(setting: Setting, limit: int = 1_000_000, *, ignores_promises: bool = False) -> tuple[Result, Liveness]:
    """Explores a setting with a fresh client from each state; returns the result and what was tried."""
    visitor = Liveness(setting, ignores_promises=ignores_promises)
    return explore(setting, limit, visitor.visit), visitor
