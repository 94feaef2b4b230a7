"""How a log gets its first entry: once, from its registration, also where the one who registered it died before.

Promises
- A log that may have begun elsewhere is never begun again by itself: whoever opens it is told which repair goes on.
- The first entry names the present incarnations of its voters, so that those that were made anew meanwhile count.
- What is begun anew is what an operator has given up; what was learnt of it before counts no more.

When it fails: the first entry is there or not, and the same call goes on.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import DriverError, NoQuorum
from grafctl.store import keys
from grafctl.store.cluster import Cluster
from grafctl.store.driver.kill import point
from grafctl.store.learn import CHUNK_ROWS, durable_step
from grafctl.store.log import Log
from grafctl.store.observe import Observation
from grafctl.store.records import NO_DIGEST, NO_OPERATION, START, HeadRow, decode_config, encode_head, encode_json
from grafctl.store.replica.replica import EMPTY, Draft, Replica, Writer, wipe
from grafctl.store.rules import RULES, Config
from grafctl.typed import Any, Mapping


def begin_log(cluster: Cluster, log: Log, start: Mapping[str, Any], uid: int, now_ms: int) -> None:
    """Writes the first entry of a log at its first primary, unless one is there, and brings the voters to it."""
    _write_first(cluster, log, start, uid, now_ms)
    log.settle()


def _write_first(
    cluster: Cluster, log: Log, start: Mapping[str, Any], uid: int, now_ms: int, *, anew: bool = False
) -> None:
    domain = start["primary"]
    try:
        with cluster.writing(domain) as batch:
            writer = Writer(batch, log.id, domain, log.apply)
            if writer.row.head.tail == 0 and (anew or not writer.row.head.learning):
                term = (1, uid)
                writer.set(learning=False)
                writer.append(Draft(START, term, now_ms, NO_OPERATION, encode_json(dict(start)), b"", NO_DIGEST))
                writer.set(promised=max(term, writer.row.head.promised))
                writer.save()
    except DriverError as error:
        raise NoQuorum(
            f"{domain}, where the log begins, cannot be reached: {error.why}.",
            hint=f"Run `grafctl domain show {domain}`, and the same command again when it is back.",
            outcome="not_written",
            domains=[domain],
        ) from error


def begin_registered(cluster: Cluster, log: Log, name: str, record: Mapping[str, Any], found: Observation) -> None:
    """Begins a registered log of which no replica answers; raises `NoQuorum` where it may have begun before."""
    config = config_of(record)
    if may_have_begun(cluster, found, config):
        first = config.primary if cluster.knows(config.primary) else cluster.domains[0]
        raise NoQuorum(
            f"{name} may have begun in {config.primary}, which was made anew since, and no other replica answers.",
            hint=f"Bring other domains back first; `grafctl domain repair {first}` says what can be done.",
            outcome="not_written",
            domains=sorted({config.primary, *found.errors}),
        )
    start = present(cluster, record["start"])
    uid = record["term_uid"] if start == record["start"] else clock.random_u64()  # one term never has two first entries
    begin_log(cluster, log, start, uid, record["ms"])


def config_of(record: Mapping[str, Any]) -> Config:
    """Returns the voter set that a log was registered with."""
    return decode_config(record["start"], 0, (1, record["term_uid"]))


def may_have_begun(cluster: Cluster, found: Observation, config: Config) -> bool:
    """Returns whether a log that no replica answers for may hold entries, or have held them, that were acknowledged.

    Its primary begins it, so it never began where that is as it was registered and empty. Where that one is fenced, no
    entry of it counted if so many registered voters are there and empty that the others are no write quorum.
    """
    empty = {s.member for s in found.sights.values() if s.head.tail == 0 and not s.head.learning}
    first = config.voter(config.primary)
    if first is None or first.member in empty or RULES.is_election_quorum(config, empty):
        return False
    is_as_registered = cluster.knows(first.domain) and cluster.member(first.domain) == first.member
    return not (is_as_registered and first.domain in found.errors)  # then it cannot begin before that one is back


def present(cluster: Cluster, start: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a registered first entry with the present incarnations of its voters."""
    voters = [
        [domain, cluster.member(domain)[1] if cluster.knows(domain) else incarnation, witness]
        for domain, incarnation, witness in start["voters"]
    ]
    return {**start, "voters": voters}


def begin_anew(cluster: Cluster, log: Log, start: Mapping[str, Any]) -> None:
    """Begins a log empty whose replicas are all lost, which an operator has accepted.

    What was learnt of it goes first. Such a replica stays `learning` until the first entry is there: it must not pass
    for one in which the log never began.
    """
    found = log.observe()
    if found.lead() is not None:
        return  # somebody else did
    learning = [domain for domain, sight in found.sights.items() if sight.head.learning]
    for domain in learning:
        _clear(cluster, log, domain, found)
    point("repair.cleared")
    _write_first(cluster, log, start, clock.random_u64(), clock.now_ms(), anew=True)
    point("repair.begun")
    for domain in learning:
        if domain != start["primary"]:
            _put_empty(cluster, log, domain, learning=False)
    log.settle()


def _clear(cluster: Cluster, log: Log, domain: str, found: Observation) -> None:
    """Takes away what was learnt of a log, and what the others remember of it; its promises stay."""
    _put_empty(cluster, log, domain, learning=True)
    for span in (
        keys.entries(log.id, 0, keys.U64_MAX),
        keys.undos(log.id, 0, keys.U64_MAX),
        keys.configs(log.id),
        keys.states(log.id),
    ):
        while durable_step(cluster, domain, lambda batch, span=span: wipe(batch, span, CHUNK_ROWS)):  # type: ignore[misc]
            pass
    for peer in found.sights:
        with cluster.writing(peer) as batch:
            batch.delete(keys.seen(log.id, domain))


def _put_empty(cluster: Cluster, log: Log, domain: str, *, learning: bool) -> None:
    with cluster.writing(domain) as batch:
        promised = Replica(batch, log.id, domain).row.head.promised
        head = EMPTY.head._replace(promised=promised, learning=learning)
        batch.put(keys.head(log.id), encode_head(HeadRow(head, *EMPTY[1:])))
