"""Who holds a log and who may use it: locator, replica policy, placements, epochs and proofs, as entries of that log.

Membership is in the locator, counts and the acknowledgement rule in the policy, use in the placement: three objects,
three commands, and none ever changes another.

Promises
- A generation goes up by exactly one, or nothing changes; the identical request again is answered, not done.
- A replica counts as a voter only from the START that made its state `ready`; the locator and the voter set change in
  one entry.
- A proof is stored with what it is bound to; `check_proof` compares all of it, not just the id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from grafctl.errors import Fenced, GenerationConflict, NoQuorum, ProofRequired
from grafctl.store import keys
from grafctl.store.authority import Placement
from grafctl.store.elect import NewVoters
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.resources.carried import policy_row
from grafctl.store.resources.group import group_row
from grafctl.store.resources.queue import queue_row
from grafctl.store.rules import Member, Voter, ack_sizes
from grafctl.typed import Any, Mapping

READY, CATCHING_UP, COPIED = "ready", "catching_up", "copied"
VOTER, WITNESS, LEARNER = "voter", "witness", "learner"
ROLES = (VOTER, WITNESS, LEARNER)


def request_digest(request: Mapping[str, Any]) -> str:
    """Returns what tells a repeated request from another one."""
    return hashlib.sha256(encode_json(dict(request))).hexdigest()[:20]


def voters_of(locator: Mapping[str, Any], members: Mapping[str, Member]) -> tuple[Voter, ...]:
    """Returns the voter set of a locator: its ready voters and witnesses, by domain and incarnation."""
    return tuple(
        Voter(replica["domain"], members[replica["domain"]][1], replica["role"] == WITNESS)
        for replica in locator["replicas"]
        if replica["state"] == READY and replica["role"] in (VOTER, WITNESS)
    )


def sizes_of(voters: tuple[Voter, ...], ack: str, min_payload: int | None) -> tuple[int, int]:
    """Returns (w, payload copies); raises `NoQuorum` when the rule cannot hold with these voters."""
    witnesses = sum(1 for voter in voters if voter.witness)
    try:
        return ack_sizes(ack, len(voters) - witnesses, witnesses, min_payload)
    except ValueError as error:
        raise NoQuorum(
            f"The voters would break the quorum: {error}.",
            hint="Add voters first, or change the rule with `grafctl policy set`.",
            outcome="not_written",
        ) from error


def new_voters(state: State, locator: Mapping[str, Any], members: Mapping[str, Member], **fields: Any) -> NewVoters:
    """Returns what a START must carry so that this locator is in force."""
    policy = fields.get("policy") or policy_row(state)
    voters = voters_of(locator, members)
    write, payload = sizes_of(voters, policy["ack"], policy["min_payload"])
    return NewVoters(voters, write, payload, {"locator": dict(locator), **fields})


def apply_start(state: State, entry: Entry, index: int) -> Writes:
    """Puts the locator, the policy and at creation the resource itself in force."""
    request = entry.request
    writes: Writes = []
    if "locator" in request:
        writes += _locator_writes(request["locator"])
    if "queue" in request:
        writes.append(json_write(keys.queue(), request["queue"]))
    if "policy" in request:
        writes.append(json_write(keys.queue(), queue_row(state, "") | request["policy"]))
    return writes


def _locator_writes(locator: Mapping[str, Any]) -> Writes:
    row = dict(locator)
    return [json_write(keys.locator(), row), json_write(keys.locator_generation(row["generation"]), row)]


def apply_locator(state: State, entry: Entry, index: int) -> Writes:
    return _locator_writes(entry.request["locator"])


@dataclass(slots=True)
class SetLocator:
    """The request to put a locator in force that leaves the voters as they are."""

    resource: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        require_locator(state, self.resource, self.before)
        return Decision(None, encode_json({"do": "locator", "locator": dict(self.after)}), kind=CTRL)


def require_locator(state: State, resource: str, before: Mapping[str, Any]) -> None:
    """Raises `GenerationConflict` when the locator is not the one that the request was made for."""
    if state.get_json(keys.locator()) != dict(before):
        raise GenerationConflict(
            f"The locator of {resource} changed meanwhile.",
            hint=f"Run `grafctl locator show {resource}` and decide again.",
            resource=resource,
        )


@dataclass(slots=True)
class SetPlacement:
    """The request to say which domains may use a resource or a group."""

    reserved = True  # no field: all of them may use the reserve

    resource: str
    group: str | None
    placement: Placement
    expect: str | None

    def decide(self, state: State, context: Context) -> Decision:
        row = group_row(state, self.resource, self.group) if self.group else queue_row(state, self.resource)
        before = Placement.of(row)
        if before == self.placement:
            return Decision(before)
        if self.expect is not None and self.expect != before.digest():
            raise GenerationConflict(
                f"The placement of {self.group or self.resource} is {before.digest()}, not {self.expect}.",
                hint=f"Run `grafctl placement show {self.resource}` and decide again.",
                resource=self.resource,
                group=self.group,
                digest=before.digest(),
            )
        meta = {"do": "placement", "group": self.group, "allow": self.placement.allow, "deny": self.placement.deny}
        return Decision(before, encode_json(meta), kind=CTRL)


def apply_placement(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    patterns = {"allow": request["allow"], "deny": request["deny"]}
    if request["group"]:
        return [json_write(keys.group(request["group"]), group_row(state, "", request["group"]) | patterns)]
    return [json_write(keys.queue(), queue_row(state, "") | patterns)]


@dataclass(slots=True)
class Fence:
    """The request to refuse every epoch below this one."""

    reserved = True  # no field: all of them may use the reserve

    resource: str
    group: str | None
    epoch: int

    def decide(self, state: State, context: Context) -> Decision:
        row = group_row(state, self.resource, self.group) if self.group else queue_row(state, self.resource)
        current = row["epoch"]
        if self.epoch < current:
            raise Fenced(
                f"{self.group or self.resource} is at epoch {current}; it cannot go back to {self.epoch}.",
                hint=f"Ask for epoch {current + 1}.",
                resource=self.resource,
                group=self.group,
                epoch=self.epoch,
                current=current,
            )
        if self.epoch == current:
            return Decision(current)
        meta = {"do": "fence", "group": self.group, "epoch": self.epoch}
        return Decision(current, encode_json(meta), kind=CTRL)


def apply_fence(state: State, entry: Entry, index: int) -> Writes:
    request = entry.request
    epoch = {"epoch": request["epoch"]}
    if request["group"]:
        return [json_write(keys.group(request["group"]), group_row(state, "", request["group"]) | epoch)]
    return [json_write(keys.queue(), queue_row(state, "") | epoch)]


# --- proofs


@dataclass(slots=True)
class RecordProof:
    """The request to keep a proof, so that a shift can compare against it."""

    proof: Mapping[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        row = keys.proof(self.proof["proof"])
        if state.get_json(row) == dict(self.proof):
            return Decision(False)
        return Decision(True, encode_json({"do": "proof", "proof": dict(self.proof)}), kind=CTRL)


def apply_proof(state: State, entry: Entry, index: int) -> Writes:
    proof = entry.request["proof"]
    return [json_write(keys.proof(proof["proof"]), proof)]


def check_proof(
    state: State, resource: str, proof_id: str, claimed: Mapping[str, Any] | None, members: Mapping[str, Member]
) -> dict[str, Any]:
    """Returns the stored proof when it still holds; raises `ProofRequired` with what does not."""
    stored: dict[str, Any] | None = state.get_json(keys.proof(proof_id)) if proof_id else None
    if stored is None or stored["resource"] != resource:  # of another resource of the same log
        raise _stale(resource, f"There is no proof {proof_id or 'named'} of {resource}.")
    different = [
        name
        for name, value in (claimed or {}).items()
        if name in stored and name != "promoted" and stored[name] != value
    ]
    if different:
        raise _stale(
            resource, f"Proof {proof_id} is not what the store recorded: {', '.join(sorted(different))} differ."
        )
    locator = state.get_json(keys.locator())
    if stored["generation"] != locator["generation"]:
        raise _stale(
            resource, f"Proof {proof_id} is of generation {stored['generation']}; {locator['generation']} is in force."
        )
    epoch = queue_row(state, resource)["epoch"]
    if stored["epoch"] != epoch:
        raise _stale(resource, f"Proof {proof_id} is of epoch {stored['epoch']}; {epoch} is in force.")
    member = members.get(stored["domain"])
    if member is None or member[1] != stored["incarnation"]:
        raise _stale(resource, f"{stored['domain']} is no longer the environment that proof {proof_id} read.")
    replica = next((item for item in locator["replicas"] if item["domain"] == stored["domain"]), None)
    if replica is None or replica["state"] != READY or replica["role"] != VOTER:
        raise _stale(resource, f"{stored['domain']} is not a voter of {resource}.")
    return stored


def _stale(resource: str, why: str) -> ProofRequired:
    return ProofRequired(
        why, hint=f"Run `grafctl catch-up {resource} -d DOMAIN --json` and use its proof.", resource=resource
    )
