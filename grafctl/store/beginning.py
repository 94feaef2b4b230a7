"""How a log gets its first entry: once, from its registration, also where the one who registered it died before.

Promises
- A log that may have begun elsewhere is never begun again by itself: whoever opens it is told which repair goes on.
- The first entry names the present incarnations of its voters, so that those that were made anew meanwhile count.

When it fails: the first entry is there or not, and the same call goes on.
"""

from __future__ import annotations

from grafctl import clock
from grafctl.errors import DriverError, NoQuorum
from grafctl.store.cluster import Cluster
from grafctl.store.log import Log
from grafctl.store.observe import Observation
from grafctl.store.records import NO_DIGEST, NO_OPERATION, START, decode_config, encode_json
from grafctl.store.replica.replica import Draft, Writer
from grafctl.store.rules import RULES, Config
from grafctl.typed import Any, Mapping


def begin_log(cluster: Cluster, log: Log, start: Mapping[str, Any], uid: int, now_ms: int) -> None:
    """Writes the first entry of a log at its first primary, unless one is there, and brings the voters to it."""
    domain = start["primary"]
    try:
        with cluster.environment(domain).write(wait_s=cluster.lock_wait_s) as batch:
            writer = Writer(batch, log.id, domain, log.apply)
            if writer.row.head.tail == 0 and not writer.row.head.learning:
                term = (1, uid)
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
    log.settle()


def begin_registered(cluster: Cluster, log: Log, name: str, record: Mapping[str, Any], found: Observation) -> None:
    """Begins a registered log of which no replica answers; raises `NoQuorum` where it may have begun before."""
    config = config_of(record)
    if is_fenced(cluster, config.primary, config) and not never_began(cluster, found, config):
        raise NoQuorum(
            f"{name} may have begun in {config.primary}, which was made anew since, and no other replica answers.",
            hint=f"Bring other domains back first; `grafctl domain repair {config.primary}` says what can be done.",
            outcome="not_written",
            domains=sorted({config.primary, *found.errors}),
        )
    start = present(cluster, record["start"])
    uid = record["term_uid"] if start == record["start"] else clock.random_u64()  # one term never has two first entries
    begin_log(cluster, log, start, uid, record["ms"])


def config_of(record: Mapping[str, Any]) -> Config:
    """Returns the voter set that a log was registered with."""
    return decode_config(record["start"], 0, (1, record["term_uid"]))


def is_fenced(cluster: Cluster, domain: str, config: Config) -> bool:
    """Returns whether a registered voter was made anew since, so that nobody can write what it was."""
    voter = config.voter(domain)
    return voter is not None and cluster.knows(domain) and cluster.member(domain) != voter.member


def never_began(cluster: Cluster, found: Observation, config: Config) -> bool:
    """Returns whether what may have been the first entry, in a primary that is fenced, reached no write quorum.

    So many registered voters are there and empty that the others are no write quorum, and as nobody reads the primary
    that was, it stays so.
    """
    empty = {s.member for s in found.sights.values() if s.head.tail == 0 and not s.head.learning}
    return RULES.is_election_quorum(config, empty)


def present(cluster: Cluster, start: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a registered first entry with the present incarnations of its voters."""
    voters = [
        [domain, cluster.member(domain)[1] if cluster.knows(domain) else incarnation, witness]
        for domain, incarnation, witness in start["voters"]
    ]
    return {**start, "voters": voters}
