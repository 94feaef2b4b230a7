"""What a client can see of a log without writing: the heads of its replicas, who leads, and how far it is committed.

Promises
- A replica that is older than a peer has durably seen it is reported as damaged and counted nowhere.
- A lead is only what was read; every transaction checks it again.
"""

from __future__ import annotations

from grafctl.errors import Corrupt, Damaged, DriverError
from grafctl.store import keys
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import View
from grafctl.store.records import HeadRow, decode_seen
from grafctl.store.replica.replica import Replica
from grafctl.store.rules import NO_TERM, RULES, Config, Head, Member, Seen, Term
from grafctl.typed import Iterable, Mapping, NamedTuple


class Sight(NamedTuple):
    """One replica as it was read."""

    domain: str
    incarnation: str
    row: HeadRow
    configs: tuple[Config, ...]
    seen: dict[str, Seen]  # what this replica remembers of its peers

    @property
    def head(self) -> Head:
        return self.row.head

    @property
    def member(self) -> Member:
        return (self.domain, self.incarnation)


# NB the two classes below are no dataclasses, because every command would wait for the code that `dataclass` makes.
class Lead:
    """The term in force as far as this process knows: whose log leads, and how far each member is durable in it."""

    __slots__ = ("_domains", "_witnesses", "config", "configs", "known", "primary", "tails", "term")

    def __init__(self, term: Term, configs: list[Config], known: int, tails: dict[Member, int]) -> None:
        self.term, self.known, self.tails = term, known, tails
        self._set_configs(configs)

    def _set_configs(self, configs: list[Config]) -> None:
        self.configs = configs
        self.config = configs[-1]
        self.primary = self.config.primary
        self._witnesses = {voter.domain for config in configs for voter in config.voters if voter.witness}
        self._domains: dict[int, list[str]] = {}  # by how many voter sets are in force

    def forget_replaced(self) -> None:
        """Leaves out the voter sets before the last one, which is known to be committed."""
        self._set_configs(self.configs[-1:])

    def force(self) -> list[Config]:
        return RULES.in_force(self.configs, self.known)

    def domains(self) -> list[str]:
        """Returns every domain whose vote counts, payload holders before witnesses, the primary first."""
        force, known = self.force(), self._domains
        found = known.get(len(force))
        if found is None:
            voters = {voter.domain: voter.witness for config in force for voter in config.voters}
            found = sorted(voters, key=lambda domain: (voters[domain], domain != self.primary))
            known[len(force)] = found
        return found

    def is_witness(self, domain: str) -> bool:
        return domain in self._witnesses

    def backups(self) -> tuple[list[str], list[str]]:
        """Returns the domains that copy from the primary: payload holders, and witnesses."""
        others = [domain for domain in self.domains() if domain != self.primary]
        return [d for d in others if d not in self._witnesses], [d for d in others if d in self._witnesses]

    def reached(self, member: Member, tail: int) -> None:
        """Notes how far a member is durable; within one term that never goes back, whichever thread says it last."""
        self.tails[member] = max(tail, self.tails.get(member, 0))

    def require_no_older(self, member: Member, tail: int) -> Member:
        """Returns the member; raises `Damaged` where it holds less than it did: in one term that never happens."""
        if tail < self.tails.get(member, 0):
            why = "an older copy was put back: this process has seen it further than it is now"
            raise Damaged(member[0], why)
        return member

    def durable(self) -> dict[Member, int]:
        """Returns how far each member is durable, as a copy: other threads go on noting."""
        return dict(self.tails)

    def settle(self) -> int:
        """Counts what is durable and returns how far the log is committed."""
        self.known = RULES.committed_up_to(self.configs, self.durable(), self.known)
        return self.known


class Observation:
    """The replicas of a log that answered, and why others did not."""

    __slots__ = ("errors", "sights")

    def __init__(self) -> None:
        self.sights: dict[str, Sight] = {}
        self.errors: dict[str, DriverError] = {}

    def best(self) -> Sight | None:
        """Returns the sight with the newest (term, length), or None where no replica has an entry."""
        full = [
            sight for sight in self.sights.values() if sight.head.tail and not sight.head.learning and sight.configs
        ]
        return max(full, key=lambda sight: (sight.head.acc, sight.head.tail), default=None)

    def newest_promise(self, domains: Iterable[str]) -> Term:
        return max((s.head.promised for d in domains if (s := self.sights.get(d)) is not None), default=NO_TERM)

    def lead(self) -> Lead | None:
        """Returns the term of the newest START that was seen, or None; its primary may be away."""
        best = self.best()
        if best is None:
            return None
        term = best.head.acc
        same = [sight for sight in self.sights.values() if sight.head.acc == term and not sight.head.learning]
        known = max(sight.head.commit for sight in same)
        # What a voter knew to be committed in an older term stands before the START of this one.
        start = best.configs[-1]
        voters = {voter.member for voter in start.voters}
        told = [s.head.commit for s in self.sights.values() if s.member in voters and not s.head.learning]
        known = max(known, min(max(told, default=0), start.at))
        lead = Lead(term, list(best.configs), known, {sight.member: sight.head.tail for sight in same})
        lead.settle()
        return lead

    def can_append(self, lead: Lead) -> bool:
        """Returns whether the primary of this lead answered and nobody has promised a newer term."""
        primary = self.sights.get(lead.primary)
        if primary is None:
            return False
        if not RULES.may_append(primary.head, lead.config, primary.member):
            return False
        return self.newest_promise(lead.domains()) <= lead.term


def look(cluster: Cluster, log: bytes, domain: str) -> Sight:
    """Returns one replica as it is; raises a `DriverError`."""
    environment = cluster.environment(domain)
    with environment.read() as view:
        return sight_of(view, log, domain, cluster.member(domain)[1])


def sight_of(view: View, log: bytes, domain: str, incarnation: str) -> Sight:
    """Returns one replica as a view shows it; a broken head is `Damaged`."""
    try:
        replica = Replica(view, log, domain)
        configs = tuple(replica.configs())
        start, stop = keys.seen(log, ""), keys.seen(log, "\x7f")
        seen = {
            key[len(start) :].decode(): decode_seen(raw, f"{domain}: memory of peers")
            for key, raw in view.scan(start, stop)
        }
    except Corrupt as error:
        raise Damaged(domain, error.message) from error
    return Sight(domain, incarnation, replica.row, configs, seen)


def observe(cluster: Cluster, log: bytes, domains: Iterable[str], exclude: Iterable[str] = ()) -> Observation:
    """Reads the heads in `domains` and in every domain that their configurations name."""
    found = Observation()
    waiting = [domain for domain in domains if cluster.knows(domain)]
    excluded = set(exclude)
    asked: set[str] = set()
    while waiting:
        domain = waiting.pop(0)
        if domain in asked or domain in excluded:
            continue
        asked.add(domain)
        try:
            sight = look(cluster, log, domain)
        except DriverError as error:
            found.errors[domain] = error
            continue
        found.sights[domain] = sight
        waiting += [voter.domain for config in sight.configs for voter in config.voters]
    _exclude_rolled_back(cluster, log, found)
    return found


def _exclude_rolled_back(cluster: Cluster, log: bytes, found: Observation) -> None:
    """Takes out what is older than a peer has seen it.

    Replicas are read one after the other, so one that was read first may only seem to be behind: it is read once more,
    now later than the peer that remembers it.
    """
    for domain in [sight.domain for sight in found.sights.values() if witness_against(found, sight)]:
        try:
            again = look(cluster, log, domain)
        except DriverError as error:
            found.errors[domain] = error
            del found.sights[domain]
            continue
        found.sights[domain] = again
        peer = witness_against(found, again)
        if peer is not None:
            why = f"an older copy was put back: {peer} has seen it further than it is now"
            found.errors[domain] = Damaged(domain, why)
            del found.sights[domain]


def witness_against(found: Observation, sight: Sight) -> str | None:
    """Returns a peer that has seen this replica further than it is, or None.

    One that is learning begins again at the floor of its source; only its promises stand, so only they tell.
    """
    for peer in found.sights.values():
        memory = peer.seen.get(sight.domain)
        if memory is None or memory.incarnation != sight.incarnation:
            continue
        if sight.head.learning:
            memory = memory._replace(acc=NO_TERM, tail=0, commit=0)
        if RULES.is_rolled_back(memory, sight.head):
            return peer.domain
    return None


def fenced_members(force: Iterable[Config], members: Mapping[str, Member]) -> set[Member]:
    """Returns the voters whose incarnation is no longer the registered one: nobody can write or read them any more."""
    voters = {voter.member for config in force for voter in config.voters}
    return {member for member in voters if member[0] in members and members[member[0]] != member}
