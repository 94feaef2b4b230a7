"""The control log: which resources exist, which authorities sign health, and what they last observed.

It has a voter in every domain of the store and a majority rule. What it says of a resource is where to look first;
the resource's own log is the truth about itself.

Promises
- A name is given to one resource once; a race for it has one winner.
- A health observation is kept only when its authority is known and not revoked and its time does not go back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from grafctl.errors import GenerationConflict, HealthRejected, NotFound, Usage
from grafctl.store import keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.typed import Any, Mapping


@dataclass(slots=True)
class Register:
    """The request to give a name to a new resource; `record` says where its log begins, or which log it joins.

    A record that joins has no `start`; it is given the log of its `log_name` and the next number there.
    """

    name: str
    record: dict[str, Any]

    def decide(self, state: State, context: Context) -> Decision:
        there = state.get_json(keys.resource(self.name))
        if there is None:
            record = self.record if self.record.get("log_name") is None else self._placed(state)
            meta = {"do": "register", "name": self.name, "record": record}
            return Decision((True, record), encode_json(meta), kind=CTRL)
        if there["request"] != self.record["request"]:
            kind, asked = there["kind"], self.record["kind"]
            what = "with another definition" if kind == asked else f"as a {kind}"
            raise GenerationConflict(
                f"{self.name} is there already, {what}.",
                hint=f"Run `grafctl {kind} show {self.name}`, or take another name.",
                resource=self.name,
            )
        return Decision((False, there))

    def _placed(self, state: State) -> dict[str, Any]:
        """Returns the record with the log that it is to be in; raises the refusal."""
        log_name = self.record["log_name"]
        members = [row for row in rows(state, keys.resources()).values() if row.get("log_name") == log_name]
        if "start" in self.record:
            if members:
                raise GenerationConflict(
                    f"The log {log_name} is there already, with replicas of its own.",
                    hint=f"Leave --replica, --ack and --min-payload out to create {self.name} in it.",
                    resource=self.name,
                )
            return self.record
        if not members:
            raise NotFound(
                f"There is no log {log_name}, and no replica was named for a new one.",
                hint="Name its replicas with --replica ID=DOMAIN; the first resource of a log brings them.",
                resource=self.name,
            )
        number = 1 + max(row.get("number", 1) for row in members)
        if number > keys.CARRIED_MAX:
            raise Usage(f"The log {log_name} carries {number - 1} resources already, and that is the most.")
        return {**self.record, "log": members[0]["log"], "domains": members[0]["domains"], "number": number}


def apply_register(state: State, entry: Entry, index: int) -> Writes:
    return [json_write(keys.resource(entry.request["name"]), entry.request["record"])]


@dataclass(slots=True)
class AddAuthority:
    """The request to trust a key; the same name with another key is refused."""

    name: str
    public_key: str  # base64 of 32 bytes

    def decide(self, state: State, context: Context) -> Decision:
        there = state.get_json(keys.authority(self.name))
        if there is not None and (there["public_key"] != self.public_key or there["revoked"]):
            what = "was revoked" if there["revoked"] else "has another key"
            raise GenerationConflict(
                f"Authority {self.name} is known already and {what}.", hint="Take another name for a new key."
            )
        if there is not None:
            return Decision(False)
        row = {"public_key": self.public_key, "revoked": False, "added_ms": context.now_ms}
        return Decision(True, encode_json({"do": "authority", "name": self.name, "row": row}), kind=CTRL)


@dataclass(slots=True)
class RevokeAuthority:
    """The request to trust a key no longer; what it observed before stays."""

    name: str

    def decide(self, state: State, context: Context) -> Decision:
        row = require_authority(state, self.name)
        if row["revoked"]:
            return Decision(False)
        meta = {"do": "authority", "name": self.name, "row": row | {"revoked": True}}
        return Decision(True, encode_json(meta), kind=CTRL)


def require_authority(state: State, name: str) -> dict[str, Any]:
    row: dict[str, Any] | None = state.get_json(keys.authority(name))
    if row is None:
        raise NotFound(f"There is no authority {name}.", hint="Run `grafctl authority list`.", authority=name)
    return row


def apply_authority(state: State, entry: Entry, index: int) -> Writes:
    return [json_write(keys.authority(entry.request["name"]), entry.request["row"])]


@dataclass(slots=True)
class Observe:
    """The request to keep a signed observation; the signature was checked against `public_key`."""

    domain: str
    observation: Mapping[str, Any]
    public_key: str

    def decide(self, state: State, context: Context) -> Decision:
        name = self.observation["authority"]
        authority = state.get_json(keys.authority(name))
        if authority is None or authority["revoked"] or authority["public_key"] != self.public_key:
            what = "is not known" if authority is None else "was revoked" if authority["revoked"] else "has another key"
            raise HealthRejected(
                f"The observation is refused: authority {name} {what}.",
                hint="Run `grafctl authority list`.",
                authority=name,
            )
        there = state.get_json(keys.observation(self.domain))
        if there is not None and there == dict(self.observation):
            return Decision((False, there))
        if there is not None and self.observation["observed_ms"] <= there["observed_ms"]:
            raise HealthRejected(
                f"The observation of {self.domain} is not newer than the one that is kept.",
                hint="Check the clock of this machine with `grafctl doctor`.",
                domain=self.domain,
            )
        meta = {"do": "observe", "domain": self.domain, "observation": dict(self.observation)}
        return Decision((True, there), encode_json(meta), kind=CTRL)


def apply_observe(state: State, entry: Entry, index: int) -> Writes:
    return [json_write(keys.observation(entry.request["domain"]), entry.request["observation"])]


@dataclass(slots=True)
class Forget:
    """The request to let go of the observation of a domain that is being removed.

    A later domain of that name is another one, and was never observed.
    """

    domain: str

    def decide(self, state: State, context: Context) -> Decision:
        if state.get_json(keys.observation(self.domain)) is None:
            return Decision(False)
        return Decision(True, encode_json({"do": "forget", "domain": self.domain}), kind=CTRL)


def apply_forget(state: State, entry: Entry, index: int) -> Writes:
    return [(keys.observation(entry.request["domain"]), None)]


def log_beginners(records: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the registrations that began a log: one for each, also where a log carries several resources."""
    return {name: record for name, record in records.items() if "start" in record}


def rows(state: State, span: tuple[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Returns the rows of a table of the control log by name."""
    cut = len(span[0])
    return {row[cut:].decode(): json.loads(body) for row, body in state.scan(span)}
