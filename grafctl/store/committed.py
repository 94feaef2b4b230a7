"""The committed state of a log, read from snapshots of its replicas.

Promises
- Snapshots of all replicas are opened before any is counted, so nothing moves in between.
- What is shown is the state at an index that is known to be committed, though tables stand at the tail.
- A wrong byte that is met in a view ends it with `Corrupt` and marks the domain, so the next view is of another one.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from grafctl.errors import Corrupt, Damaged, DriverError, NoQuorum, told
from grafctl.store.cluster import Cluster
from grafctl.store.driver.contract import View
from grafctl.store.observe import Lead, Observation, Sight, sight_of
from grafctl.store.replica.state import State, state_at
from grafctl.store.requests import Attempt
from grafctl.store.rules import Config
from grafctl.typed import Iterable, Iterator, Mapping, NamedTuple


class Committed(NamedTuple):
    """The committed state of a log in an open snapshot."""

    state: State
    view: View
    domain: str  # where it is read
    upto: int  # entries it covers
    found: Observation
    lead: Lead
    views: Mapping[str, View]  # of every domain that was looked at


def open_committed(stack: ExitStack, cluster: Cluster, log: bytes, found: Observation, prefer: str | None) -> Committed:
    """Returns the state at the newest index that is known to be committed, read where `prefer` is if it can be.

    `found` says which replicas to open; their snapshots are open until the stack closes. With too few voters for a
    count, the furthest commit point that a replica knows is used: it may lag behind by what is in flight.
    """
    views: dict[str, View] = {}
    for domain in list(found.sights):
        try:
            views[domain] = stack.enter_context(cluster.environment(domain).read())
            found.sights[domain] = sight_of(views[domain], log, domain, cluster.member(domain)[1])
        except DriverError as error:
            found.errors[domain] = error
            found.sights.pop(domain)
    return _choose_whole(log, found, views, prefer)


@contextmanager
def telling(committed: Committed) -> Iterator[None]:
    """Makes damage of the domain that is read the `Corrupt` that leaves the block."""
    try:
        yield
    except Damaged as error:
        if error.domain != committed.domain:
            raise
        raise told(error) from error  # its next view is another domain's


def nobody(errors: Iterable[DriverError], outcome: str) -> Corrupt | NoQuorum:
    """Returns the error for a log that no replica answers for: damage is said as such."""
    errors = list(errors)
    damaged = [error for error in errors if isinstance(error, Damaged)]
    if damaged and len(damaged) == len(errors):
        return Corrupt(
            f"{damaged[0].domain}: {damaged[0].why}.", hint="Run `grafctl verify`.", domain=damaged[0].domain
        )
    return NoQuorum(
        "No replica of the log answers.",
        hint="Run `grafctl status` to see which domains are away.",
        outcome=outcome,
        domains=sorted(error.domain for error in errors),
    )


def _choose_whole(log: bytes, found: Observation, views: dict[str, View], prefer: str | None) -> Committed:
    """Returns the state in the best view whose pre-images are whole; a domain where they are not is left out."""
    while True:
        lead = found.lead()
        if lead is None:
            raise nobody(found.errors.values(), "not_written")
        try:
            return choose(log, found, lead, views, prefer)
        except Corrupt as error:
            domain = error.fields.get("domain")
            if domain not in found.sights or len(found.sights) == 1:
                raise
            found.errors[domain] = Damaged(domain, error.message)
            del found.sights[domain]


def choose(log: bytes, found: Observation, lead: Lead, views: dict[str, View], prefer: str | None) -> Committed:
    """Returns the committed state in the view that is best for it; raises `NoQuorum` where none holds payloads."""
    domain, count = chosen(found, lead, prefer)
    state = state_at(views[domain], log, domain, found.sights[domain].head.tail, count)
    return Committed(state, views[domain], domain, count, found, lead, views)


def is_whole(sight: Sight, lead: Lead) -> bool:
    """Returns whether a replica that keeps payloads can show all that is known to be committed, and knows no more."""
    head = sight.head
    return head.acc == lead.term and head.tail >= lead.known >= head.commit and not head.learning


def chosen(found: Observation, lead: Lead, prefer: str | None) -> tuple[str, int]:
    """Returns where the committed state is best read, and how many entries it covers; raises `NoQuorum`."""
    payload = {d: s for d, s in found.sights.items() if not lead.is_witness(d) and not s.head.learning and s.head.tail}
    fit = [d for d, s in payload.items() if is_whole(s, lead)]
    count = lead.known
    if not fit:
        if not payload:
            raise NoQuorum("No replica that keeps payloads answers.", outcome="not_written")
        fit = [max(payload, key=lambda domain: payload[domain].head.commit)]
        count = payload[fit[0]].head.commit
    return prefer if prefer in fit else (lead.primary if lead.primary in fit else fit[0]), count


def too_few(config: Config, away: list[str]) -> str:
    """Returns what a write lacks: voters, or among enough of them those that keep payloads."""
    there = [voter for voter in config.voters if voter.domain not in away]
    count, every, least, who = len(there), len(config.voters), config.write_size, "voters"
    if count >= least:
        count = sum(1 for voter in there if not voter.witness)
        every = sum(1 for voter in config.voters if not voter.witness)
        least, who = config.payload_size, "voters that keep payloads"
    return f"Only {count} of {every} {who} {'answers' if count == 1 else 'answer'} and {least} must"


def no_quorum(config: Config, away: list[str], attempt: Attempt, found: Observation | None = None) -> NoQuorum:
    """Returns the error for voters that are too few, and says whether something may be written all the same."""
    what = "Whether it was written is unknown" if attempt.may_be_written else "Nothing was written"
    errors = {} if found is None else found.errors
    names = [f"{domain} ({errors[domain].why})" if domain in errors else domain for domain in away]
    return NoQuorum(
        f"{too_few(config, away)}; {', '.join(names)} {'is' if len(away) == 1 else 'are'} away. {what}.",
        hint="Run `grafctl status` to see the domains, and the same command again when they are back.",
        outcome=attempt.outcome,
        domains=away,
        operation=attempt.name,
    )
