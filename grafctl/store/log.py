"""The replicated log as its callers see it: append a request, read the committed state, change who votes.

Promises
- `append` returns only when the entry, and all before it, is durable on a write quorum of every voter set in force.
- No answer, positive or negative, leaves before the state it depends on is committed.
- An append tried again after a lost primary finds its first attempt by its operation key: it is there once or never.

When it fails: `outcome` says whether nothing was written or nobody knows; the operation key makes another try safe.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from grafctl import clock
from grafctl.errors import (
    Corrupt,
    Damaged,
    DriverError,
    Full,
    GrafctlError,
    NoQuorum,
    StoreFull,
    Timeout,
)
from grafctl.store import keys
from grafctl.store.cluster import Cluster, blaming
from grafctl.store.committed import Committed, no_quorum, nobody, open_committed, telling
from grafctl.store.driver.contract import Batch
from grafctl.store.driver.kill import point
from grafctl.store.elect import Change, VoterChange, elect
from grafctl.store.lookout import Lookout
from grafctl.store.observe import Lead, Observation, observe
from grafctl.store.records import CTRL, NO_OPERATION
from grafctl.store.replica.replica import Appended, Apply, Draft, Replica, Writer
from grafctl.store.replica.scope import FIRST, numbered, scoped
from grafctl.store.replica.state import State, StateView
from grafctl.store.replicate import Failures, Moved, NeedsLearning, copy_all, note_commit, remember_peers
from grafctl.store.requests import Attempt, Context, Done, Nothing, Outcome, Request, Turn, new_operation
from grafctl.store.rules import NO_TERM, RULES, Config, Member
from grafctl.typed import Callable, Iterator

DEADLINE_S = 10.0


class Log:
    """One replicated log of a store, for the threads of one process."""

    def __init__(self, cluster: Cluster, log: bytes, hint: list[str], apply: Apply, number: int = FIRST) -> None:
        self.cluster = cluster
        self.id = log
        self.hint = hint  # domains to ask first; configurations lead to the others
        self.apply = apply
        self.number = number  # of the resource whose requests and state these are
        self._lead: Lead | None = None
        self._lookout = Lookout(cluster, log, hint)

    # --- reading

    def observe(self, exclude: frozenset[str] = frozenset()) -> Observation:
        """Reads every replica's head."""
        self.cluster.refresh()
        found = observe(self.cluster, self.id, self.hint, exclude)
        if found.best() is None:  # all hinted domains are away or were left: ask everybody
            found = observe(self.cluster, self.id, self.cluster.domains, exclude)
        return found

    @property
    def is_leading(self) -> bool:
        """Returns whether this process knows a primary from an earlier call."""
        return self._lead is not None

    def prepare(self) -> None:
        """Finds out who leads, so that the next append need not."""
        if self._lead is None:
            found = self.observe()
            lead = found.lead()
            if lead is not None and found.can_append(lead):
                self._lead = lead

    def exists(self) -> bool:
        """Returns whether any reachable replica holds an entry."""
        return self.observe().best() is not None

    @contextmanager
    def view(self, prefer: str | None = None, exclude: frozenset[str] = frozenset()) -> Iterator[Committed]:
        """Yields the newest committed state, read in `prefer` if it can be; see `open_committed`."""
        with ExitStack() as stack:
            committed = None if exclude else self._lookout.look(stack, prefer)
            if committed is None:
                stack.close()
                committed = open_committed(stack, self.cluster, self.id, self.observe(exclude), prefer)
            with telling(committed):
                yield committed if self.number == FIRST else committed._replace(state=self.scope(committed.state))

    def glance(self, row: bytes) -> bytes | None:
        """Returns a row as the primary of an earlier call has it at its tail, committed or not, so that a change is
        seen; None where that cannot be read."""
        lead = self._lead
        if lead is None:
            return None
        try:
            with self.cluster.environment(lead.primary).read() as view:
                return self.scope(StateView(view, self.id, lead.primary)).get(row)
        except (DriverError, Corrupt):
            return None

    def scope(self, state: State) -> State:
        """Returns a state of this log as its resource sees it."""
        return scoped(state, self.number)

    # --- appending

    def append(
        self,
        request: Request,
        *,
        operation: bytes | None = None,
        hint: int | None = None,
        deadline_s: float = DEADLINE_S,
        turn: Turn | None = None,
        lock_wait_s: float | None = None,
    ) -> Outcome:
        """Appends what the request decides, and returns once it is committed.

        With `hint`, `operation` names an earlier try of the same request, which began when the log had so many entries;
        with `turn` it goes after another. Raises the request's refusal, `NoQuorum`, `StoreFull`, `Timeout`, `Corrupt`,
        and with `lock_wait_s` also `Busy` where the primary is locked for longer: nobody is elected for that.
        """
        until = clock.monotonic_s() + deadline_s
        attempt = Attempt(request, operation or new_operation(), 0 if hint is None else hint, until)
        attempt.may_be_written = hint is not None
        attempt.turn, attempt.lock_wait_s = turn, lock_wait_s
        pause_s = 0.001
        while True:
            try:
                return self._try(attempt)
            except Corrupt as error:
                raise attempt.own(error) from None
            except Moved:
                self._lead = None
            except DriverError as error:
                self._lead = None
                attempt.blame(error)
            self._check_deadline(attempt)
            clock.sleep(clock.jitter_s(pause_s))
            pause_s = min(pause_s * 2, 0.1)

    def _check_deadline(self, attempt: Attempt) -> None:
        if clock.monotonic_s() <= attempt.deadline_s:
            return
        if attempt.full:
            full = StoreFull(f"There is no room in {', '.join(sorted(attempt.full))}.", outcome="not_written")
            raise attempt.own(full)
        raise Timeout(
            "The log did not come to rest before the deadline.",
            hint="Run the same command again.",
            outcome=attempt.outcome,
            operation=attempt.name,
        )

    def _try(self, attempt: Attempt) -> Outcome:
        lead = self._require_lead(attempt)
        if attempt.turn is not None:
            attempt.turn.enter(lead.term)
        refusal: GrafctlError | None = None
        done: Done | None = None
        with blaming(lead.primary), self.cluster.writing(lead.primary, attempt.lock_wait_s) as batch:
            writer = Writer(batch, self.id, lead.primary, self.apply)
            config = self._check_primary(writer, lead)
            try:
                done = self._find(attempt, writer) or self._decide(attempt, writer, lead, config)
            except Corrupt:
                raise
            except GrafctlError as error:
                refusal = error
            if done is not None and done.draft is not None:
                done = self._append(writer, lead, batch, done)
        if done is not None and done.fresh is not None:
            attempt.may_be_written = True
            point("append.after")
        if done is not None and attempt.turn is not None:
            attempt.turn.appended(lead.term)
        tail = writer.row.head.tail
        lead.reached(self.cluster.member(lead.primary), tail)
        self._commit(attempt, lead, tail, done.fresh if done else None)
        point("append.committed")
        if done is None:
            assert refusal is not None
            raise refusal
        if done.fresh is not None and (done.fresh.entry.kind == CTRL or self.id == keys.CONTROL_LOG):
            note_commit(self.cluster, self.id, self.apply, lead, done.fresh.at)  # it is rare, and much hangs on it
        return self._outcome(lead, tail, done, attempt)

    def _check_primary(self, writer: Writer, lead: Lead) -> Config:
        head = writer.row.head
        if head.acc != lead.term or head.start < 0:
            raise Moved(head.acc)
        config = lead.config if lead.config.at == head.start else writer.config()
        if not RULES.may_append(head, config, lead.require_no_older(self.cluster.member(lead.primary), head.tail)):
            raise Moved(head.promised)
        return config

    def _find(self, attempt: Attempt, writer: Writer) -> Done | None:
        """Returns what an earlier try of this operation appended, or None."""
        if not attempt.may_be_written:
            return None
        found = writer.find_operation(attempt.operation, attempt.hint)
        if found is None:
            attempt.require_kept(writer.row.head.floor)
            return None
        at, place = found
        entry = writer.entry(at)
        if (at, entry.term) in attempt.tried:  # not the last one: an earlier try may be the one that stayed
            return Done(attempt.tried[at, entry.term], at)
        recall = getattr(attempt.request, "recall", None)
        answer = recall(entry, place, self.scope(writer.state)) if recall else None
        return None if recall and answer is None else Done(answer, at)

    def _decide(self, attempt: Attempt, writer: Writer, lead: Lead, config: Config) -> Done:
        head = writer.row.head
        if not attempt.tried and not attempt.may_be_written:
            attempt.hint = max(head.commit, lead.known)
        now_ms = max(clock.now_ms(), writer.row.stamped_ms)
        decision = attempt.request.decide(self.scope(writer.state), Context(head.tail, now_ms, config))
        if decision.meta is None:
            return Done(decision.answer)
        attempt.tried[head.tail, head.acc] = decision.answer
        block = (decision.block, decision.block_digest)
        meta = numbered(decision.meta, self.number)
        draft = Draft(decision.kind, head.acc, now_ms, attempt.operation, meta, *block)
        return Done(decision.answer, draft=draft)

    def _append(self, writer: Writer, lead: Lead, batch: Batch, done: Done) -> Done:
        assert done.draft is not None
        fresh = writer.append(done.draft)
        writer.advance_commit(lead.known)
        remember_peers(batch, self.id, lead)
        writer.save()
        point("append.before")
        return Done(done.answer, fresh.at, fresh=fresh)

    def _outcome(self, lead: Lead, tail: int, done: Done, attempt: Attempt) -> Outcome:
        need = tail if done.at is None else done.at + 1
        member = self.cluster.member
        domains = [domain for domain in lead.domains() if lead.tails.get(member(domain), -1) >= need]
        copies = len([domain for domain in domains if not lead.is_witness(domain)])
        return Outcome(done.answer, tail, done.at, domains, copies, attempt.operation, lead.term)

    # --- leading

    def _require_lead(self, attempt: Attempt) -> Lead:
        """Returns a lead whose primary can be asked, after an election where one is needed."""
        lead = self._lead
        if lead is None or lead.primary in attempt.exclude:
            exclude = frozenset(attempt.exclude)
            found = self.observe()
            if (lead := found.lead()) is None:
                raise attempt.own(nobody(found.errors.values(), "not_written"))
            self._require_quorum(lead, attempt, found)
            if lead.primary in exclude or not found.can_append(lead):
                lead = self._elect(attempt, found, exclude)
                if lead.config.voter(lead.primary) is None:  # it was removed: its log must reach one who can append
                    self._level(attempt, lead)
                    raise Moved(lead.term)
            self._lead = lead
        self._require_quorum(lead, attempt)
        return lead

    def _require_quorum(self, lead: Lead, attempt: Attempt, found: Observation | None = None) -> None:
        """Raises `NoQuorum` before anything is written when the voters that are there cannot commit it."""
        force = lead.force()
        members = {voter.member for config in force for voter in config.voters}
        errors = found.errors if found is not None else {}
        away = {member for member in members if member[0] in errors or self.cluster.is_away(member)}
        config = RULES.lacks_holders(force, members - away) if away else None
        if config is not None:
            names = [voter.domain for voter in config.voters if voter.member in away]
            raise no_quorum(config, names, attempt, found)

    def _elect(
        self,
        attempt: Attempt,
        found: Observation,
        exclude: frozenset[str] = frozenset(),
        change: VoterChange | None = None,
    ) -> Lead:
        prefer = None
        if change is not None and (lead := found.lead()) is not None:
            prefer = lead.primary  # a change of voters is no reason to move
        with self.cluster.election_turn():
            if change is None:  # somebody else may have elected while this one waited
                found = self.observe()
                if (lead := found.lead()) is not None and lead.primary not in exclude and found.can_append(lead):
                    return lead
            try:
                return elect(self.cluster, self.id, self.apply, found, change, prefer, exclude, attempt.is_reserved)
            except NoQuorum as error:
                raise attempt.own(error) from None

    def _commit(self, attempt: Attempt, lead: Lead, tail: int, fresh: Appended | None = None) -> None:
        """Copies until `tail` is committed; raises `Moved` where another election is needed."""
        if fresh is None and lead.settle() >= tail:
            return
        failures = copy_all(self.cluster, self.id, self.apply, lead, tail, fresh)
        if lead.settle() >= tail:
            return
        self._explain(attempt, lead, failures)

    def _explain(self, attempt: Attempt, lead: Lead, failures: Failures) -> None:
        for error in failures.values():
            if isinstance(error, Moved):
                raise error
        failures.raise_of_source(lead.primary)
        reached = lead.tails.get(self.cluster.member(lead.primary), 0)
        held = {member for member, tail in lead.durable().items() if tail >= reached}
        config = RULES.lacks_holders(lead.force(), held)
        away = [voter.domain for voter in config.voters if voter.member not in held] if config else []
        if config is not None and self._is_final(failures, away):
            raise no_quorum(config, away, attempt)
        raise Moved(lead.term)

    def _is_final(self, failures: Failures, away: list[str]) -> bool:
        """Returns whether waiting longer cannot help: a voter is out, or needs learning, or is full."""
        return any(
            self.cluster.is_failed(domain) or isinstance(failures.get(domain), (NeedsLearning, Damaged, Full))
            for domain in away
        )

    # --- membership

    def change_voters(self, change: Change, eligible: frozenset[Member], *, deadline_s: float = DEADLINE_S) -> Lead:
        """Starts a term with another voter set and returns when it is committed under the joint rule.

        `eligible` are the members of the new set. `change` decides on the state at the tail, inside the transaction
        of the START. Raises its refusal or `NoQuorum`.
        """

        def act(attempt: Attempt) -> Lead:
            self._level(attempt, self._require_lead(attempt))
            return self._start(attempt, VoterChange(change, eligible))

        return self._persist(act, deadline_s)

    def replace_fenced(self, change: VoterChange, *, deadline_s: float = DEADLINE_S) -> Lead:
        """Does the same where the change fences members of the old set, which may be unable to commit anything now."""
        return self._persist(lambda attempt: self._start(attempt, change), deadline_s)

    def _start(self, attempt: Attempt, change: VoterChange) -> Lead:
        self._lead = lead = self._elect(attempt, self.observe(), frozenset(attempt.exclude), change)
        attempt.may_be_written = True
        self._commit(attempt, lead, max(lead.tails.values()))
        return lead

    def _persist(self, act: Callable[[Attempt], Lead], deadline_s: float) -> Lead:
        """Does it again until nobody interferes; returns what it returns."""
        attempt = Attempt(Nothing(), NO_OPERATION, 0, clock.monotonic_s() + deadline_s)
        while True:
            try:
                return act(attempt)
            except Moved:
                self._lead = None
            except DriverError as error:
                self._lead = None
                attempt.blame(error)
            self._check_deadline(attempt)
            clock.sleep(clock.jitter_s(0.02))

    def _level(self, attempt: Attempt, lead: Lead) -> None:
        """Commits everything that the primary holds, so that every voter may become the candidate."""
        with blaming(lead.primary), self.cluster.environment(lead.primary).read() as view:
            tail = Replica(view, self.id, lead.primary).row.head.tail
        lead.reached(self.cluster.member(lead.primary), tail)
        self._commit(attempt, lead, tail)

    def settle(self, *, deadline_s: float = DEADLINE_S) -> Lead:
        """Brings every reachable voter to the primary's log; returns the lead."""
        settled: Lead | None = None
        left = NO_TERM  # a term that a replica said is over

        def act(attempt: Attempt) -> Lead:
            nonlocal settled, left
            try:
                self._level(attempt, lead := self._require_lead(attempt))
            except NoQuorum:
                if settled is None:
                    raise
                return settled
            failures = copy_all(self.cluster, self.id, self.apply, lead, lead.tails[self.cluster.member(lead.primary)])
            if lead.term != left and any(isinstance(error, Moved) for error in failures.values()):
                left = lead.term  # where a look at all leads here again, nobody whose word counts has said so
                raise Moved(lead.term)
            settled = lead
            if lead.primary not in attempt.exclude:  # another one must lead where nothing can be copied from it
                failures.raise_of_source(lead.primary)
            return lead

        return self._persist(act, deadline_s)
