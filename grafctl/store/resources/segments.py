"""Leases on segments: a row of the control log for each name, which says who may use which file until when.

The token of a lease is the index of the entry that granted it, so a later lease has a larger one, and whoever comes
with another than the one in force is fenced.

Promises
- A name has one lease at a time. Nobody gets it before the lease of another has ended, but the holder itself, who
  replaces a segment that is lost.
- What is asked for again is answered again and changes nothing; only a renewal moves the deadline.
- A name that was revoked is not leased again, unless somebody says that it is to be forgotten.
- The deadlines decide when a lease ends; no entry is needed for that.
"""

from __future__ import annotations

from grafctl.errors import Busy, GenerationConflict, NotFound
from grafctl.store import segment_keys
from grafctl.store.records import CTRL, Entry, encode_json
from grafctl.store.replica.state import State, Writes, json_write
from grafctl.store.requests import Context, Decision
from grafctl.store.segment_rules import (
    EXPIRED,
    FENCED,
    HELD,
    RELEASED,
    REVOKED,
    REVOKING,
    USABLE,
    check_move,
    due_ms,
    judged,
    refusal,
    renewed_until_ms,
)
from grafctl.typed import Any, NamedTuple

_ASKED = ("domain", "kind", "bytes", "owner", "term_ms")


class Leased(NamedTuple):
    """The answer to each of these requests: the lease as it is now, and as it was before."""

    changed: bool
    row: dict[str, Any]
    before: dict[str, Any] | None = None


def lease_row(state: State, name: str) -> dict[str, Any]:
    """Returns the row of a lease; raises `NotFound`."""
    row: dict[str, Any] | None = state.get_json(segment_keys.segment_lease(name))
    if row is None:
        raise NotFound(f"There is no lease {name}.", hint="Run `grafctl lease list`.", lease=name)
    return row


class AcquireSegment(NamedTuple):
    """The request for a lease; `replace` is the token of the caller's own lease, whose segment is lost."""

    name: str
    domain: str
    kind: str
    bytes: int
    owner: str
    term_ms: int
    segment: str  # file, made by the caller for this request
    replace: int | None = None

    def decide(self, state: State, context: Context) -> Decision:
        there: dict[str, Any] | None = state.get_json(segment_keys.segment_lease(self.name))
        if there is None and self.replace is not None:
            raise NotFound(f"There is no lease {self.name} to replace.", hint="Leave --replace out.", lease=self.name)
        if there is not None and self._is_had(there, context.now_ms):
            return Decision(Leased(False, there, there))
        generation = 1 if there is None else there["generation"] + 1
        row = {field: getattr(self, field) for field in (*_ASKED, "segment")}
        row |= {"state": HELD, "generation": generation, "until_ms": context.now_ms + self.term_ms, "gone_ms": None}
        row |= {"replaced": self.replace, "acquired_ms": context.now_ms}
        meta = {"do": "segment", "name": self.name, "row": row}
        return Decision(Leased(True, row | {"token": context.at}, there), encode_json(meta), kind=CTRL)

    def _is_had(self, there: dict[str, Any], now_ms: int) -> bool:
        """Returns whether the caller has what it asks for; raises the refusal where it can have no lease."""
        found = judged(there, now_ms)
        if found in (REVOKING, REVOKED):
            raise refusal(self.name, found)
        is_same = found == HELD and all(there[field] == getattr(self, field) for field in _ASKED)
        if found == HELD and there["owner"] != self.owner:
            raise Busy(
                f"The lease {self.name} is held by {there['owner']}.",
                hint="Try again when it has ended; `grafctl lease list` shows until when it is held.",
                lease=self.name,
                owner=there["owner"],
                until_ms=there["until_ms"],
            )
        if self.replace is not None and self.replace != there["token"]:
            if is_same and there["replaced"] == self.replace:
                return True
            raise refusal(self.name, FENCED, token=self.replace, current=there["token"])
        if found != HELD or self.replace is not None:
            check_move(found, FENCED, what=self.name)
            return False
        if not is_same:
            raise GenerationConflict(
                f"{self.owner} holds the lease {self.name} already, with another definition.",
                hint=f"Release it first, or run the same with --replace {there['token']}.",
                lease=self.name,
                token=there["token"],
            )
        return True


def apply_segment(state: State, entry: Entry, index: int) -> Writes:
    """A grant or a renewal; of a grant the entry itself is the token."""
    row = {"token": index} | entry.request["row"]
    return [json_write(segment_keys.segment_lease(entry.request["name"]), row)]


class RenewSegment(NamedTuple):
    """The request to move the deadline to a term from now; with `if_due` only where that is time."""

    name: str
    token: int
    if_due: bool = False

    def decide(self, state: State, context: Context) -> Decision:
        there = _owned(state, self.name, self.token, context.now_ms)
        until_ms = renewed_until_ms(there, context.now_ms)
        if until_ms == there["until_ms"] or (self.if_due and context.now_ms < due_ms(there)):
            return Decision(Leased(False, there, there))
        row = there | {"until_ms": until_ms}
        meta = {"do": "segment", "name": self.name, "row": row}
        return Decision(Leased(True, row, there), encode_json(meta), kind=CTRL)


def _owned(state: State, name: str, token: int, now_ms: int) -> dict[str, Any]:
    """Returns the lease of whoever may still use it; raises the refusal."""
    there = lease_row(state, name)
    found = judged(there, now_ms, token=token)
    if found not in USABLE:
        raise refusal(name, found, token=token, current=there["token"])
    return there


class ReleaseSegment(NamedTuple):
    """The request to give a lease back."""

    name: str
    token: int

    def decide(self, state: State, context: Context) -> Decision:
        there = lease_row(state, self.name)
        found = judged(there, context.now_ms, token=self.token)
        if found == FENCED:
            raise refusal(self.name, found, token=self.token, current=there["token"])
        if found in (RELEASED, REVOKED):
            return Decision(Leased(False, there, there))
        return _ended(self.name, there, found, REVOKED if found == REVOKING else RELEASED)


class RevokeSegment(NamedTuple):
    """The request to take a lease away: after the grace nobody uses it, and nobody is given its name again."""

    name: str
    grace_ms: int

    def decide(self, state: State, context: Context) -> Decision:
        there = lease_row(state, self.name)
        found = judged(there, context.now_ms)
        gone_ms = context.now_ms + self.grace_ms
        if found == REVOKED or (found == REVOKING and there["gone_ms"] <= gone_ms):
            return Decision(Leased(False, there, there))
        if found in (EXPIRED, RELEASED):
            return _ended(self.name, there, found, REVOKED)
        if found != REVOKING:
            check_move(found, REVOKING, what=self.name)
        row = there | {"state": REVOKING, "gone_ms": gone_ms}
        meta = {"do": "segment_end", "name": self.name, "row": row}
        return Decision(Leased(True, row, there), encode_json(meta), kind=CTRL)


class ForgetSegment(NamedTuple):
    """The request to delete what is known of a lease that has ended; its name may be leased again, by anybody."""

    name: str

    def decide(self, state: State, context: Context) -> Decision:
        there = lease_row(state, self.name)
        require_over(self.name, there, context.now_ms)
        if state.get_json(segment_keys.edge(self.name)) is not None:
            raise GenerationConflict(
                f"The edge {self.name} is in the segment of this lease.",
                hint=f"Run `grafctl edge remove {self.name}` first.",
                lease=self.name,
                edge=self.name,
            )
        meta = {"do": "segment_end", "name": self.name, "row": None}
        return Decision(Leased(True, there, there), encode_json(meta), kind=CTRL)


def require_over(name: str, lease: dict[str, Any], now_ms: int) -> None:
    """Raises `Busy` where somebody may use the segment of a lease."""
    if judged(lease, now_ms) in USABLE:
        raise Busy(
            f"The lease {name} is held by {lease['owner']}.",
            hint="Release or revoke it first, or wait until it has expired; `grafctl lease list` shows when that is.",
            lease=name,
            owner=lease["owner"],
            until_ms=lease["until_ms"],
        )


def _ended(name: str, there: dict[str, Any], found: str, after: str) -> Decision:
    check_move(found, after, what=name)
    row = there | {"state": after}
    meta = {"do": "segment_end", "name": name, "row": row}
    return Decision(Leased(True, row, there), encode_json(meta), kind=CTRL)


def apply_segment_end(state: State, entry: Entry, index: int) -> Writes:
    """The end of a lease, or without a row of what is known of it."""
    key, row = segment_keys.segment_lease(entry.request["name"]), entry.request["row"]
    return [(key, None) if row is None else json_write(key, row)]
