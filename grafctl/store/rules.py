"""The rules of the replicated log: pure functions from values to values, shared by the product, the explorer and its
mutants.

The protocol is passive-primary Raft: leadership of a term belongs to one replica's durable log (the primary), not to a
process; any process may append there, copy the primary's log to the others, and answer once enough of them are durable.
Sources: Ongaro, "Consensus: Bridging Theory and Practice" (2014); Howard et al., "Flexible Paxos" (2016) for the
sizes of the two kinds of quorum. `docs/protocol.md` says where this departs from them and why.

Promises (each is an invariant that `tests/model` explores; the numbers are those of `docs/protocol.md`)
- I1 what `committed_up_to` counts is in the log of every candidate that `choose_primary` may return later.
- I3 commit points only grow, and a copy never cuts a log below its commit point (`matches_commit`).
- I4 one START a term: terms carry the elector's own 64 random bits, and a promise is durable before the START.
- I7 a member counts only with the incarnation under which it was made a voter.

When it fails: nothing here can; there is no I/O, no clock and no randomness. The one instance the product runs is
`RULES`; a mutant is a subclass that breaks one method.
"""

from __future__ import annotations

from itertools import pairwise

from grafctl.typed import Callable, Collection, Mapping, NamedTuple, Sequence

Term = tuple[int, int]  # (counter, the elector's random 64 bits); ordered like any tuple
NO_TERM: Term = (0, 0)

Member = tuple[str, str]  # (domain, incarnation): a domain that was wiped and came back is another member


class Voter(NamedTuple):
    """One member of a voter set."""

    domain: str
    incarnation: str
    witness: bool = False  # votes and is counted, keeps no payload, is never the primary

    @property
    def member(self) -> Member:
        return (self.domain, self.incarnation)


class Config(NamedTuple):
    """What a START entry carries: whose log leads the term, who votes, and how many must be durable."""

    at: int  # index of the START in the log
    term: Term
    primary: str  # domain
    voters: tuple[Voter, ...]
    write_size: int  # w: voters that must be durable before an entry is committed
    payload_size: int  # of those, how many must hold the payload (less than w only beside a witness)
    fenced: tuple[Member, ...] = ()  # members of the sets before that are gone for good: nobody can write them again

    @property
    def election_size(self) -> int:
        """Returns e = n - w + 1, the smallest number of voters that meets every write quorum."""
        return len(self.voters) - self.write_size + 1

    def voter(self, domain: str) -> Voter | None:
        """Returns the voter in `domain`, or None."""
        for voter in self.voters:
            if voter.domain == domain:
                return voter
        return None


class Head(NamedTuple):
    """What one replica durably knows about one log, beside the entries."""

    promised: Term
    acc: Term  # term of the last START in this log
    floor: int  # index of the first entry still kept; everything before it is committed
    tail: int  # number of entries ever held, so also the next index
    commit: int  # entries [0, commit) are known to be committed; never decreases
    start: int  # index of the last START
    learning: bool = False  # a state snapshot is being copied in: counted nowhere, served to nobody


EMPTY_HEAD = Head(NO_TERM, NO_TERM, 0, 0, 0, -1, False)


class Seen(NamedTuple):
    """What a peer remembers of a replica, to notice that an old copy of it was put back."""

    incarnation: str
    promised: Term
    acc: Term
    tail: int
    commit: int


class Promise(NamedTuple):
    """The answer of one replica to an elector."""

    domain: str
    incarnation: str
    acc: Term
    tail: int
    commit: int
    witness: bool = False


class Choice(NamedTuple):
    """Who may start the term: candidates in order of preference, or why nobody may."""

    candidates: tuple[str, ...]
    refusal: str | None = None  # "no_quorum" or "payload"


class Rules:
    """The guards of the four transactions and the arithmetic of the quorums."""

    # --- guards: each is evaluated inside the replica's write transaction

    def may_append(self, head: Head, config: Config, me: Member) -> bool:
        """APPEND: this replica is the primary of the last START, and has promised nobody newer."""
        voter = config.voter(me[0])
        return (
            not head.learning
            and config.primary == me[0]
            and head.acc == config.term
            and head.promised == head.acc
            and voter is not None
            and voter.incarnation == me[1]
        )

    def may_copy(self, head: Head, term: Term) -> bool:
        """COPY of term T: this replica has promised nobody newer than T."""
        return head.promised <= term

    def may_promise(self, head: Head, term: Term) -> bool:
        """PROMISE: only upwards, so no term is promised twice."""
        return head.promised < term

    def may_start(self, head: Head, term: Term, promised_tail: int) -> bool:
        """START: the promise still stands and the log is the one that was compared."""
        return head.promised == term and head.tail == promised_tail and not head.learning

    def may_cut(self, head: Head, term: Term, match: int) -> bool:
        """A copy of term T that would cut below the commit point, or cut what T itself wrote, is the safety alarm.

        Within one term every other replica holds a prefix of the primary's log, so such a cut means that an old copy of
        the primary was put back.
        """
        return match >= head.commit and (head.acc != term or match >= head.tail)

    def may_stop_copy_at(self, stop: int, config: Config, known: int, *, cuts: bool) -> bool:
        """A copy that does not reach the START of its term (learning in chunks) may hold committed entries only.

        One that cuts must reach the START: otherwise the replica's last term would go back, which is how peers know
        an old copy.
        """
        return stop > config.at or (stop <= known and not cuts)

    # --- quorums

    def in_force(self, configs: Sequence[Config], known: int) -> list[Config]:
        """Returns the voter sets that must each agree (the joint rule), newest first.

        `configs` are those of a log, oldest first; `known` entries are known to be committed. The last set is in
        force, and so is each set before it for as long as the START that replaced it is not known to be committed.
        """
        force = [configs[-1]]
        if len(configs) == 1:  # nearly always
            return force
        for newer, older in pairwise(reversed(configs)):
            if newer.at < known:
                break
            force.append(older)
        return force

    def is_write_quorum(self, config: Config, members: Collection[Member]) -> bool:
        """Returns whether these members, all durable up to one point, make that point committed in this voter set."""
        durable = payload = 0
        for domain, incarnation, witness in config.voters:
            if (domain, incarnation) in members:
                durable += 1
                payload += not witness
        return durable >= config.write_size and payload >= config.payload_size

    def is_election_quorum(self, config: Config, members: Collection[Member]) -> bool:
        """Returns whether these promises meet every write quorum of this voter set."""
        return sum(1 for voter in config.voters if voter.member in members) >= config.election_size

    def lacks_holders(self, force: Sequence[Config], holders: Collection[Member]) -> Config | None:
        """Returns the first set in force, newest first, by which what these hold in the newest term is not committed.

        A set of which some members were fenced by a later START is content with everyone who is left: an election in
        it can begin only in a log that holds that START. Fewer holders would not do, though they and the fenced ones
        are w together: an elector may still have the promise of a member that was fenced since.
        """
        return self._lacking(force, holders, self.is_write_quorum)

    def lacks_promises(self, force: Sequence[Config], members: Collection[Member]) -> Config | None:
        """Returns the first set in force for which these promises are too few; a fenced member never promises."""
        return self._lacking(force, members, self.is_election_quorum)

    def _lacking(
        self,
        force: Sequence[Config],
        members: Collection[Member],
        is_quorum: Callable[[Config, Collection[Member]], bool],
    ) -> Config | None:
        fenced: set[Member] = set()
        for config in force:
            if not is_quorum(config, members) and not self.is_everyone_left(config, members, fenced):
                return config
            fenced.update(config.fenced)
        return None

    def is_everyone_left(self, config: Config, members: Collection[Member], fenced: Collection[Member]) -> bool:
        """Returns whether these are all voters of a set that are not fenced, where some of it are."""
        left = {voter.member for voter in config.voters}.difference(fenced)
        return 0 < len(left) < len(config.voters) and left.issubset(members)

    def committed_up_to(self, configs: Sequence[Config], tails: Mapping[Member, int], known: int) -> int:
        """Returns how many entries are committed, given how far each member is durable *in the term of the last START*.

        Members whose last START is another one must not be in `tails`: entries of an old term are committed only
        through the START of a newer one. Never returns less than `known`.
        """
        least = max(known, self._first_countable(configs[-1]))
        newer = {tail for tail in tails.values() if tail > least}
        if not newer:  # the usual case, so no more than this is done
            return known
        force = self.in_force(configs, known)
        for reached in sorted(newer, reverse=True):
            holders = {member for member, tail in tails.items() if tail >= reached}
            if self.lacks_holders(force, holders) is None:
                return reached
        return known

    def _first_countable(self, config: Config) -> int:
        return config.at  # reached > index: the START itself is inside what is counted

    # --- elections

    def next_term(self, seen: Collection[Term], uid: int) -> Term:
        """Returns a term above all that were seen; `uid` makes it this elector's own."""
        return (max((term[0] for term in seen), default=0) + 1, uid)

    def rank(self, promise: Promise) -> tuple[Term, int]:
        """Orders logs by (last term, length); longest alone is wrong."""
        return (promise.acc, promise.tail)

    def choose_primary(
        self, configs: Sequence[Config], promises: Sequence[Promise], eligible: Collection[Member] | None = None
    ) -> Choice:
        """Returns whose log may lead the new term.

        `configs` are those of the best log among the promises. Candidates hold payloads and are in `eligible` (the
        new voter set, where the election changes it). A witness that knows of entries which no candidate holds blocks
        the election, unless those entries cannot have been committed: too few members are left that might hold them.
        """
        members = {(promise.domain, promise.incarnation) for promise in promises}
        known = min(max(promise.commit for promise in promises), max(promises, key=self.rank).tail)
        force = self.in_force(configs, known)
        if self.lacks_promises(force, members) is not None:
            return Choice((), "no_quorum")
        best_of_all = max(self.rank(promise) for promise in promises)
        holders = [promise for promise in promises if not promise.witness]
        best = max((self.rank(promise) for promise in holders), default=(NO_TERM, 0))
        if best < best_of_all and self._may_be_committed(force, promises, best):
            return Choice((), "payload")
        candidates = [promise.domain for promise in holders if self.rank(promise) == best]
        if eligible is not None:
            allowed = {member[0] for member in eligible}
            candidates = [domain for domain in candidates if domain in allowed]
        candidates.sort(key=lambda domain: configs[-1].voter(domain) is None)  # who was removed may lead, not append
        return Choice(tuple(candidates), None if candidates else "payload")

    def choose_survivor(self, promises: Sequence[Promise], eligible: Collection[Member]) -> Choice:
        """Returns whose log may lead where what only lost members held was given up: the best that keeps payloads."""
        members = [given for given in promises if (given.domain, given.incarnation) in eligible and not given.witness]
        best = max((self.rank(given) for given in members), default=None)
        candidates = tuple(given.domain for given in members if self.rank(given) == best)
        return Choice(candidates, None if candidates else "payload")

    def of_members(
        self, configs: Sequence[Config], promises: Sequence[Promise], eligible: Collection[Member] | None
    ) -> list[Promise]:
        """Returns the promises of members of these voter sets, or of the eligible ones."""
        members = {voter.member for config in configs for voter in config.voters} | set(eligible or ())
        return [promise for promise in promises if (promise.domain, promise.incarnation) in members]

    def _may_be_committed(self, force: Sequence[Config], promises: Sequence[Promise], best: tuple[Term, int]) -> bool:
        """Returns whether entries beyond `best` can have reached a write quorum of some set in force.

        Who promised and does not hold them never will in an older term; who did not answer may. One set is enough:
        entries before the START that changed the voters needed the older set alone.
        """
        without = {(p.domain, p.incarnation) for p in promises if self.rank(p) <= best}
        return any(
            self.is_write_quorum(config, {voter.member for voter in config.voters} - without) for config in force
        )

    # --- an old copy put back

    def is_rolled_back(self, seen: Seen, head: Head) -> bool:
        """Returns whether this replica is older than a peer has durably seen it (same incarnation assumed)."""
        return (
            head.promised < seen.promised
            or head.commit < seen.commit
            or head.acc < seen.acc
            or (head.acc == seen.acc and head.tail < seen.tail)
        )


RULES = Rules()


def ack_sizes(rule: str, payload_voters: int, witnesses: int, payload_min: int | None) -> tuple[int, int]:
    """Returns (w, payload copies) for an acknowledgement rule over that many voters; raises ValueError with a sentence.

    `majority` of all voters, `all` of them, or a number. Without a witness every counted copy holds the payload. One
    copy of two is not offered: it acknowledges what a single lost disk takes away.
    """
    voters = payload_voters + witnesses
    if payload_voters < 1:
        raise ValueError("a log needs at least one voter that keeps payloads")
    if rule == "majority":
        write = voters // 2 + 1
    elif rule == "all":
        write = voters
    elif rule.isascii() and rule.isdigit() and len(rule) < 4:
        write = int(rule)
    else:
        raise ValueError(f"--ack is 'majority', 'all' or a number of voters, not {rule!r}")
    least = 1 if voters == 1 else 2
    if not least <= write <= voters:
        raise ValueError(
            f"--ack {rule} cannot hold with {voters} voter{'s' if voters != 1 else ''}; take {least} to {voters}"
        )
    default = min(write, payload_voters)
    payload = default if payload_min is None else payload_min
    if not max(1, write - witnesses) <= payload <= default:
        raise ValueError(f"--min-payload takes {max(1, write - witnesses)} to {default} here, not {payload}")
    return write, payload
