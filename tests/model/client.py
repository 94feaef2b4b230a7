"""The client process: operations that are appended at the primary, copied to the others, and answered once committed.

It stands for publish (and its retry, which is another client with the same key), for a consumer that leases and
finalises, for the operator who revokes, expires or shifts on a proof.

Promises
- The gate, the operation key and the append are one transaction at the primary.
- Nothing that depends on the first n entries is answered before n are committed: every answer ends in `expose`.

When it fails: a refused operation ends the script, once the state that refuses it is committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from model.process import (
    DONE,
    Step,
    copied,
    copy_targets,
    count,
    first_acks,
    is_locked,
    is_old_copy,
    note_steps,
    put,
    remember_members,
)
from model.setting import Setting
from model.state import Entry, Replica, State, expose
from model.tables import FINALISE, LEASE, SHIFT, refusal
from model.transactions import Source, append, copy, may_append

PROVE = "PROVE"  # reads the generation of the committed state at some replica; changes nothing


class Operation(NamedTuple):
    """One step of a script."""

    kind: str
    key: str = ""
    body: Any = None


class Client(NamedTuple):
    """A process that works through its script."""

    name: str
    script: tuple[Operation, ...]
    position: int = 0
    source: Source | None = None  # what is being copied; None before the append
    need: int = 0  # entries that must be committed before the answer
    answered: bool = False
    refused: bool = False
    token: int = -1
    proof: int = -1
    passed: bool = False  # the gate, in the mutant that evaluates it too early
    holds: str = ""  # the domain whose lock it holds, in the mutants that plan


def publisher(key: str, name: str = "p") -> Client:
    """Returns a client that publishes one record."""
    return Client(name, (Operation("DATA", key),))


def steps(setting: Setting, state: State, position: int, client: Client) -> Iterator[Step]:
    """Yields every next step of this client."""
    if client.source is not None:
        yield from _copy_steps(setting, state, position, client, client.source)
        return
    if client.script[client.position].kind == PROVE:
        yield from _prove_steps(state, position, client)
        return
    for place, replica in enumerate(state.replicas):
        if not may_append(setting, replica) or is_locked(setting, state, position, replica.domain):
            continue
        if not is_old_copy(setting, state, place, tuple(range(len(state.replicas)))):
            yield from _append_steps(setting, state, position, client, place)


def _body(client: Client, operation: Operation) -> Any:
    return {FINALISE: client.token, SHIFT: client.proof}.get(operation.kind, operation.body)


def _append_steps(setting: Setting, state: State, position: int, client: Client, place: int) -> Iterator[Step]:
    """The transaction at the primary: operation key, gate, append."""
    behaviour, replica = setting.behaviour, state.replicas[place]
    operation, log = client.script[client.position], replica.log
    source = Source(log.acc, log, replica.commit, ((replica.member, log.length),))
    found = log.positions.get(operation.key)
    if found is not None and not behaviour.ignores_keys:
        client = client._replace(source=source, need=found + 1)
        yield (
            (client.name, "found", operation.key, replica.domain),
            _settled(setting, state, position, client, at_once=found),
        )
        return
    body = _body(client, operation)
    reason = None if client.passed else refusal(replica.tables, operation.kind, client.name, body)
    if (behaviour.ignores_proofs and reason == "stale proof") or (behaviour.ignores_tokens and reason == "stale token"):
        reason = None
    if reason:
        client = client._replace(source=source, need=log.length, refused=True)
        yield (client.name, "refused", reason, replica.domain), _settled(setting, state, position, client)
        return
    if behaviour.guards_before_append and not client.passed:
        yield (
            (client.name, "passes the gate", operation.key, replica.domain),
            put(state, position, client._replace(passed=True)),
        )
        return
    entry = Entry(log.acc, operation.kind, operation.key, client.name, body)
    if behaviour.plans:
        yield _plan(state, position, client, replica, entry)
        return
    after = append(setting, replica, entry)
    assert after is not None
    after = remember_members(setting, state, after)
    source = Source(log.acc, after.log, replica.commit, first_acks(setting, state, after))
    client = client._replace(source=source, need=after.log.length, passed=False)
    label = (client.name, operation.kind, operation.key, "at", replica.domain)
    yield label, _settled(setting, put(state, position, client, place, after), position, client)


def _plan(state: State, position: int, client: Client, replica: Replica, entry: Entry) -> Step:
    """Decides what the primary's log will be, before writing it anywhere."""
    source = Source(entry.term, replica.log.extended(entry), replica.commit, ())
    client = client._replace(source=source, need=source.log.length, holds=replica.domain)
    return (client.name, "plans", entry.key, "for", replica.domain), put(state, position, client)


def _settled(setting: Setting, state: State, position: int, client: Client, at_once: int | None = None) -> State:
    """Returns the state with this client in it, having answered if it may: as early as it may is the strictest."""
    source = client.source
    assert source is not None
    reached = count(setting, source)
    early = (client.refused and setting.behaviour.refuses_early) or (
        at_once is not None and setting.behaviour.answers_found_early
    )
    if early:
        reached = max(reached, client.need)
    if client.answered or reached < client.need:
        return put(state, position, _resting(setting, state, client))
    state = state._replace(exposed=expose(state.exposed, source.log.path[reached]))
    operation = client.script[client.position]
    if client.refused:
        return put(state, position, DONE)
    token = client.need - 1 if operation.kind == LEASE else client.token
    if client.position + 1 < len(client.script):
        client = Client(client.name, client.script, client.position + 1, token=token, proof=client.proof)
        return put(state, position, client)
    return put(state, position, _resting(setting, state, client._replace(answered=True)))


def _resting(setting: Setting, state: State, client: Client) -> Any:
    """Returns DONE for a client with nothing left to do, so that states which differ only in its past are one."""
    source = client.source
    if client.answered and source is not None and not setting.notes_commit and not copy_targets(setting, state, source):
        return DONE
    return client


def _copy_steps(setting: Setting, state: State, position: int, client: Client, source: Source) -> Iterator[Step]:
    """Copies to any voter that has not got all of it yet, in any order."""
    for place in copy_targets(setting, state, source):
        domain = state.replicas[place].domain
        if client.holds == domain:
            yield from _planned_steps(setting, state, position, client, source, place)
            continue
        if is_locked(setting, state, position, domain):
            continue
        for stop, replica, after in copied(setting, state, source, place):
            label = (client.name, "copies", stop, "to", domain)
            if replica is None:
                yield label, put(state, position, DONE)._replace(alarm=f"I3 {domain} cut below its commit point")
            else:
                moved = client._replace(source=after)
                yield label, _settled(setting, put(state, position, moved, place, replica), position, moved)
    if client.answered and setting.notes_commit:
        yield from note_steps(setting, state, position, source)
    if client.holds:
        yield (client.name, "dies"), put(state, position, DONE)


def _planned_steps(
    setting: Setting, state: State, position: int, client: Client, source: Source, place: int
) -> Iterator[Step]:
    """The mutants that plan: the append at the primary, if its log is still the one that was planned on."""
    replica = state.replicas[place]
    if not may_append(setting, replica) or replica.log is not source.log.path[-2]:
        return
    if is_locked(setting, state, position, replica.domain):
        return
    after = copy(setting, replica, source, source.log.length)
    if isinstance(after, Replica):
        moved = client._replace(
            source=source._replace(acks=tuple(sorted((*source.acks, (replica.member, source.log.length))))), holds=""
        )
        yield (
            (client.name, "writes the primary", replica.domain),
            _settled(setting, put(state, position, moved, place, after), position, moved),
        )


def _prove_steps(state: State, position: int, client: Client) -> Iterator[Step]:
    """Reads the generation that is committed, as far as some replica knows; it may be old."""
    answering = [replica for replica in state.replicas if not replica.learning]
    generations = {replica.log.path[replica.commit].tables.generation for replica in answering}
    for generation in sorted(generations):
        moved = client._replace(position=client.position + 1, proof=generation)
        yield (client.name, "proves at generation", generation), put(state, position, moved)
