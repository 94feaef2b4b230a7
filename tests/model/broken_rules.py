"""Rules with one error each: what the explorer must tell from `grafctl.store.rules.RULES`.

The last three were in the product once, and were found here.

Promises
- Each class overrides as little as makes the error.

When it fails: nothing here can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from grafctl.store.rules import Choice, Config, Head, Member, Promise, Rules, Term


class CountsOneCopy(Rules):
    """Acknowledges once the primary alone is durable."""

    def is_write_quorum(self, config: Config, members: Collection[Member]) -> bool:
        return any(voter.member in members for voter in config.voters)


class NoFenceAtPrimary(Rules):
    """Appends although a newer term was promised."""

    def may_append(self, head: Head, config: Config, me: Member) -> bool:
        return super().may_append(head._replace(promised=head.acc), config, me)


class NoFenceAtBackup(Rules):
    """Takes a copy although a newer term was promised."""

    def may_copy(self, head: Head, term: Term) -> bool:
        return True


class NoPromise(Rules):
    """Starts without the promise being there (with `Behaviour.forgets_promises`)."""

    def may_start(self, head: Head, term: Term, promised_tail: int) -> bool:
        return head.tail == promised_tail and not head.learning


class CommitsWithoutCounting(Rules):
    """Takes the primary's tail for committed."""

    def committed_up_to(self, configs: Sequence[Config], tails: Mapping[Member, int], known: int) -> int:
        return max([known, *tails.values()])


class LongestLog(Rules):
    """Prefers the longest log to the newest one."""

    def rank(self, promise: Promise) -> tuple[Term, int]:
        return ((promise.tail, 0), promise.acc[0])


class CountsOldTerm(Rules):
    """Counts entries of an old term, copied without the START of the new one."""

    def may_stop_copy_at(self, stop: int, config: Config, known: int, *, cuts: bool) -> bool:
        return stop > config.at or not cuts

    def _first_countable(self, config: Config) -> int:
        return -1


class TermsNotUnique(Rules):
    """Leaves the elector's own bits out of the term."""

    def next_term(self, seen: Collection[Term], uid: int) -> Term:
        return super().next_term(seen, 0)


class NoJointQuorum(Rules):
    """Asks the newest voter set alone."""

    def in_force(self, configs: Sequence[Config], known: int) -> list[Config]:
        return [configs[-1]]


class CountsWitnessAsPayload(Rules):
    """Takes any write quorum for enough payloads."""

    def is_write_quorum(self, config: Config, members: Collection[Member]) -> bool:
        return sum(1 for voter in config.voters if voter.member in members) >= config.write_size


class IgnoresWitness(Rules):
    """Elects the best payload holder whatever the witness knows."""

    def _may_be_committed(self, force: Sequence[Config], promises: Sequence[Promise], best: tuple[Term, int]) -> bool:
        return False


class StopsAnywhere(Rules):
    """Copies chunks of entries that are not committed."""

    def may_stop_copy_at(self, stop: int, config: Config, known: int, *, cuts: bool) -> bool:
        return stop > config.at or not cuts


class StartsWhileLearning(Rules):
    """Starts at a replica that has half a snapshot (with `Behaviour.counts_learning`)."""

    def may_start(self, head: Head, term: Term, promised_tail: int) -> bool:
        return super().may_start(head._replace(learning=False), term, promised_tail)


class AllSetsMayCommit(Rules):
    """Once in the product: newer entries count as possibly committed only if every voter set may have them."""

    def _may_be_committed(self, force: Sequence[Config], promises: Sequence[Promise], best: tuple[Term, int]) -> bool:
        without = {(p.domain, p.incarnation) for p in promises if self.rank(p) <= best}
        return all(
            self.is_write_quorum(config, {voter.member for voter in config.voters} - without) for config in force
        )


class CutsAtChunk(Rules):
    """Once in the product: a copy that cuts may stop before the START of its term."""

    def may_stop_copy_at(self, stop: int, config: Config, known: int, *, cuts: bool) -> bool:
        return super().may_stop_copy_at(stop, config, known, cuts=False)


class CountsFenced(Rules):
    """Takes fenced members for holders: w of those and of real ones commit the START that fences them."""

    def is_everyone_left(self, config: Config, members: Collection[Member], fenced: Collection[Member]) -> bool:
        gone = {voter.member for voter in config.voters}.intersection(fenced)
        return bool(gone) and self.is_write_quorum(config, gone.union(members))


class CountsEverybody(Rules):
    """Once in the product: promises of non-members count, and a candidate is a domain, whatever its incarnation."""

    def of_members(
        self, configs: Sequence[Config], promises: Sequence[Promise], eligible: Collection[Member] | None
    ) -> list[Promise]:
        return list(promises)

    def choose_primary(
        self, configs: Sequence[Config], promises: Sequence[Promise], eligible: Collection[Member] | None = None
    ) -> Choice:
        domains = {member[0] for member in eligible or ()}
        allowed = {(given.domain, given.incarnation) for given in promises if given.domain in domains}
        return super().choose_primary(configs, promises, allowed)
