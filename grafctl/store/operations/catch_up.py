"""Catch-up: copies a resource to a domain of its locator, proves the copy by its content, and makes the replica count.

Steps, each safe to do again: learn the committed prefix; copy the rest; read both sides back and compare; record the
proof; start a term in which the replica is a voter. Widen before you narrow: the replica votes only when its content
is proven.

Promises
- It consumes nothing: no cursor, lease or finalised mark moves.
- Done again over unchanged content it gives the same proof, and says so with `changed: false`.

When it fails: the replica stays `catching_up`, counts nowhere, and the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from grafctl import clock
from grafctl.errors import Corrupt, Damaged, DomainUnavailable, DriverError, NoQuorum, ProofRequired, Timeout, told
from grafctl.names import check_domain, check_name
from grafctl.results import Proof
from grafctl.store import keys
from grafctl.store.authority import CATCH_UP, Asked, Placement, pass_locator
from grafctl.store.driver.kill import point
from grafctl.store.learn import Checked, learn, needs_learning
from grafctl.store.log import DEADLINE_S, Log
from grafctl.store.observe import look
from grafctl.store.operations.polling import ack, poll
from grafctl.store.operations.proving import Content, Progress, both_sides, compare, covers_of
from grafctl.store.records import encode_json
from grafctl.store.replica.replica import SafetyAlarm
from grafctl.store.replicate import Moved, NeedsLearning, copy
from grafctl.store.resources.carried import numbers
from grafctl.store.resources.consumers import CreateGroup, new_group
from grafctl.store.resources.membership import (
    CATCHING_UP,
    COPIED,
    LEARNER,
    READY,
    WITNESS,
    RecordProof,
    SetLocator,
    new_voters,
    require_locator,
)
from grafctl.store.resources.queue import queue_row
from grafctl.store.session import Session

T = TypeVar("T")


def catch_up(
    session: Session,
    resource: str,
    domain: str,
    group: str | None,
    allow_empty: bool,
    progress: Progress | None,
    *,
    dry_run: bool = False,
) -> Proof:
    """Runs all steps; see the module's text."""
    check_domain(domain)
    log = session.resource(check_name("resource", resource))
    with session.audited(CATCH_UP, resource=resource):
        locator = _pass(session, log, resource, domain)
        replica = next(item for item in locator["replicas"] if item["domain"] == domain)
        if dry_run:
            return _planned(session, resource, locator, domain)
        checked: list[Checked] = []

        def prove() -> dict[str, Any] | None:
            _copy(session, log, domain, replica["role"] == WITNESS, progress, checked)
            point("catch-up.copied")
            if replica["role"] == WITNESS:
                return None
            return _prove(session, log, resource, locator, domain, allow_empty, progress, checked)

        proof = _until_steady(domain, prove)
        if proof is None:
            return _admit_witness(session, log, resource, locator, domain)
        changed = log.append(RecordProof(proof)).answer
        point("catch-up.recorded")
        changed |= _promote(session, log, resource, locator, domain)
        point("catch-up.promoted")
    if changed:
        about = {"proof": proof["proof"], "generation": proof["generation"]}
        session.note("changed", CATCH_UP, resource=resource, domain=domain, **about)
    if group is not None:
        _read_as(session, log, resource, group, domain, proof["count"])
    stored = {name: value for name, value in proof.items() if name != "log"}
    return Proof(**stored, promoted=replica["role"] != LEARNER, changed=changed)


def _pass(session: Session, log: Log, resource: str, domain: str) -> dict[str, Any]:
    """Returns the locator when the domain may catch up; raises `DomainUnavailable`."""
    with log.view() as committed:
        locator: dict[str, Any] = committed.state.get_json(keys.locator())
    asked = Asked(CATCH_UP, resource, domain, known=session.cluster.knows(domain))
    if asked.known and any(item["domain"] == domain and item["role"] == WITNESS for item in locator["replicas"]):
        return locator
    away = False
    if asked.known:
        try:
            away = session.cluster.is_failed(domain)
            look(session.cluster, log.id, domain)
        except Damaged as error:
            raise told(error) from error
        except DriverError:
            away = True
    pass_locator(asked, locator, session.health(), unreachable=away)
    return locator


def _planned(session: Session, resource: str, locator: dict[str, Any], domain: str) -> Proof:
    with session.state(resource) as state:
        covers = list(covers_of(queue_row(state, resource)["kind"]))
    return Proof("", resource, domain, locator["generation"], 0, -1, 0, "", "", False, covers, False, changed=False)


def _until_steady(domain: str, act: Callable[[], T]) -> T:
    """Returns what it returns; does it again where the term ended in the middle of it, until the deadline."""
    until = clock.monotonic_s() + DEADLINE_S
    while True:
        try:
            return act()
        except (Moved, NeedsLearning):  # the primary went away, or was replaced
            if clock.monotonic_s() > until:
                raise Timeout(
                    "The log did not come to rest before the deadline.",
                    hint=f"Run the same command again; the copy in {domain} goes on where it was.",
                    outcome="not_written",
                ) from None
            clock.sleep(clock.jitter_s(0.05))
        except SafetyAlarm as error:
            raise Corrupt(str(error), domain=domain) from error
        except DriverError as error:
            raise DomainUnavailable(
                f"{error.domain} cannot be reached: {error.why}.",
                reason="unreachable",
                hint=f"Run the same command again when {error.domain} is back; it goes on where it was.",
                domain=error.domain,
            ) from error


def _copy(
    session: Session, log: Log, domain: str, witness: bool, progress: Progress | None, checked: list[Checked]
) -> None:
    """Brings the domain's replica close to the primary's log; adds to `checked` what of both was read and right.

    Raises `Moved` where the term is over before, and `NeedsLearning`.
    """
    lead = log.settle()
    if domain == lead.primary:
        return
    if needs_learning(log, domain):
        checked += learn(log, domain, witness=witness, progress=progress)
    tail = lead.tails[session.cluster.member(lead.primary)]
    try:
        copy(session.cluster, log.id, log.apply, lead, domain, tail)
    except NeedsLearning:
        checked += learn(log, domain, witness=witness, progress=progress)
        copy(session.cluster, log.id, log.apply, log.settle(), domain, tail)


def recopy(session: Session, log: Log, domain: str, progress: Progress | None) -> None:
    """Brings the copy of a domain that does not vote up anew, where a repair has emptied it."""
    _until_steady(domain, lambda: _copy(session, log, domain, False, progress, []))


def _prove(
    session: Session,
    log: Log,
    resource: str,
    locator: dict[str, Any],
    domain: str,
    allow_empty: bool,
    progress: Progress | None,
    checked: Sequence[Checked],
) -> dict[str, Any]:
    source = _source(session, log, locator, domain)
    with both_sides(log, source, domain) as (ours, theirs):
        now = [item for item in checked if session.cluster.member(item.domain) == (item.domain, item.incarnation)]
        for number in numbers(ours.replica.state):  # the replica will vote for all that the log carries
            one, other = ours._replace(number=number), theirs._replace(number=number)
            name = one.state.get_json(keys.queue())["name"]
            found = compare(name, one, other, progress, now)
            if number == log.number:
                (content, read_back), epoch = found, queue_row(one.state, resource)["epoch"]
    if not content.records and not allow_empty:
        raise ProofRequired(
            f"{resource} holds no {'key' if 'keys' in content.digests else 'record'}, so the copy proves nothing.",
            hint=f"Write to it first, or run `grafctl catch-up {resource} -d {domain} --allow-empty`.",
            resource=resource,
            domain=domain,
        )
    return _bound(session, log, resource, locator["generation"], epoch, source, domain, content, read_back)


def _source(session: Session, log: Log, locator: dict[str, Any], domain: str) -> str:
    """Returns the domain to compare with: the primary, or another ready replica where the primary is the target."""
    lead = log.settle()
    ready = [
        item["domain"]
        for item in locator["replicas"]
        if item["state"] == READY and item["role"] != WITNESS and item["domain"] != domain
    ]
    ready = [name for name in ready if not session.cluster.is_failed(name)]
    if not ready:
        raise NoQuorum("There is no other ready replica to compare with.", outcome="not_written", domain=domain)
    return lead.primary if lead.primary in ready else ready[0]


def _bound(
    session: Session,
    log: Log,
    resource: str,
    generation: int,
    epoch: int,
    source: str,
    domain: str,
    content: Content,
    read_back: Content,
) -> dict[str, Any]:
    """Returns the proof with everything it is bound to; its id is the hash of that."""
    body = {
        "resource": resource,
        "domain": domain,
        "generation": generation,
        "epoch": epoch,
        "through": content.through,
        "count": content.records,
        "source_digest": content.digest(),
        "target_digest": read_back.digest(),
        "match": True,
        "covers": list(content.digests),
        "source": source,
        "incarnation": session.cluster.member(domain)[1],
        "first_offset": content.first or None,
        "log": log.id.hex(),
    }
    identity = {name: value for name, value in body.items() if name != "source"}
    return {"proof": "prf_" + hashlib.sha256(encode_json(identity)).hexdigest()[:24], **body}


def _promote(session: Session, log: Log, resource: str, locator: dict[str, Any], domain: str) -> bool:
    """Makes the replica count, in one entry with the locator that says so; returns whether it did not before."""
    with log.view() as committed:
        before = committed.state.get_json(keys.locator())
    if before["generation"] != locator["generation"]:
        require_locator_moved(resource)
    replica = next(item for item in before["replicas"] if item["domain"] == domain)
    if replica["state"] != CATCHING_UP:
        return False
    learner = replica["role"] == LEARNER
    done = {**replica, "state": COPIED if learner else READY, "content_generation": before["generation"]}
    after = {**before, "replicas": [done if item["domain"] == domain else item for item in before["replicas"]]}
    if learner:
        log.append(SetLocator(resource, before, after))
        return True
    members = session.members()

    def change(state: Any, _: Any) -> Any:
        require_locator(state, resource, before)
        return new_voters(state, after, members)

    eligible = frozenset(members[item["domain"]] for item in after["replicas"] if item["state"] == READY)
    log.change_voters(change, eligible)
    return True


def require_locator_moved(resource: str) -> None:
    """Raises `ProofRequired`: the generation that was proven is no longer in force."""
    raise ProofRequired(
        f"The locator of {resource} moved on during the catch-up.",
        hint="Run the same command again.",
        resource=resource,
    )


def _admit_witness(session: Session, log: Log, resource: str, locator: dict[str, Any], domain: str) -> Proof:
    """A witness keeps no content to prove; its log is checked entry by entry as it is copied."""
    changed = _promote(session, log, resource, locator, domain)
    if changed:
        session.note("changed", CATCH_UP, resource=resource, domain=domain, role=WITNESS)
    return Proof(
        "", resource, domain, locator["generation"], 0, -1, 0, "", "", True, ["entries"], True, changed=changed
    )


def _read_as(session: Session, log: Log, resource: str, group: str, domain: str, count: int) -> None:
    """Leaves an ordinary group that has read everything from the first offset, in this domain."""
    row = new_group(check_name("group", group), Placement((domain,), ()), "at-least-once", None)
    log.append(CreateGroup(resource, row))
    left = count
    while left > 0:
        delivery = poll(session, resource, group, domain, min(left, 10_000), 60_000, None)
        if not delivery.records:
            return
        ack(session, resource, group, [record.offset for record in delivery.records], domain, delivery.lease, None)
        left -= len(delivery.records)
