"""`consumer`: groups that read a queue, and their shift to another place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.errors import DomainUnavailable, ProofRequired, Usage
from grafctl.names import check_name
from grafctl.nouns.queues import parse_placement
from grafctl.results import Change, Listed, Shift, Shown
from grafctl.store import keys
from grafctl.store.authority import SHIFT, Asked, Placement, pass_locator
from grafctl.store.checked import checked
from grafctl.store.filters import check_filter
from grafctl.store.log import Log
from grafctl.store.replica.state import State
from grafctl.store.requests import Context, Request
from grafctl.store.resources.consumers import CreateGroup, Pause, Seek, ShiftGroup, new_group
from grafctl.store.resources.group import SEMANTICS, group_row, lineage_of
from grafctl.store.resources.membership import VOTER
from grafctl.store.resources.starts import check_start
from grafctl.store.session import Session

PROOF_FILE_BYTES_MAX = 1 << 20


def run_request(session: Session, log: Log, request: Request, dry_run: bool) -> Any:
    """Returns the answer of a request, or with `dry_run` what it would be now."""
    if not dry_run:
        return log.append(request).answer
    with log.view() as committed:
        return request.decide(committed.state, Context(committed.upto, clock.now_ms(), committed.lead.config)).answer


def group_fields(state: State, resource: str, name: str) -> dict[str, Any]:
    """Returns what defines a group and nothing that moves by itself."""
    row = group_row(state, resource, name)
    placement = Placement.of(row)
    lineage = lineage_of(state, row["lineage"])
    return {
        "resource": resource,
        "group": name,
        "lineage": row["lineage"],
        "placement": placement.as_json(),
        "placement_digest": placement.digest(),
        "semantics": row["semantics"],
        **({"filter": row["filter"]} if "filter" in row else {}),
        "epoch": row["epoch"],
        "start": row["start"],
        "cursor": row["cursor"],
        "ack_floor": lineage.floor,
        "max_deliveries": row["max_deliveries"],
        "paused": row["paused"],
        "shifted_from": row["shifted_from"],
        **({"lost": lineage.loss()} if lineage.lost else {}),
    }


class Consumers:
    """The consumer groups of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def create(
        self,
        resource: str,
        group: str,
        *,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        semantics: str = "at-least-once",
        start: str = "earliest",
        max_deliveries: int | None = None,
        filter: str | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Creates a group with a lineage of its own; a topic's group, a durable subscription, may have a filter.

        `start` is earliest, latest, an offset, a moment of RFC 3339, or how long back, such as 2h.
        """
        check_name("group", group)
        if semantics not in SEMANTICS:
            raise Usage(f"--semantics is one of {', '.join(SEMANTICS)}, not {semantics[:40]!r}.")
        if max_deliveries is not None and max_deliveries < 1:
            raise Usage(f"--max-deliveries is 1 or more, not {max_deliveries}.")
        placement = parse_placement(allow, deny)
        picked = None if filter is None else check_filter(filter)
        row = new_group(group, placement, semantics, max_deliveries, asked_start=check_start(start), filter=picked)
        log = self._log(resource)
        with self.session.audited("consumer create", resource=resource, group=group):
            changed = run_request(self.session, log, CreateGroup(resource, row), dry_run)
        if dry_run:
            actions = [f"create group {group} of {resource}"] if changed else []
            return Change(changed, resource=resource, group=group, dry_run=True, actions=actions)
        if changed:
            self.session.note("changed", "consumer create", resource=resource, group=group, **placement.as_json())
        return Change(changed, resource=resource, group=group, after=self._fields(resource, group))

    def _log(self, resource: str) -> Log:
        return self.session.resource(check_name("resource", resource))

    def _fields(self, resource: str, group: str) -> dict[str, Any]:
        return checked(self._log(resource), lambda state: group_fields(state, resource, group))

    def list(self, resource: str) -> Listed:
        """Returns the groups of a resource, by name."""
        with self._log(resource).view() as committed:
            names = sorted(json.loads(body)["name"] for _, body in committed.state.scan(keys.groups()))
            return Listed("groups", [group_fields(committed.state, resource, name) for name in names])

    def show(self, resource: str, group: str) -> Shown:
        """Returns one group; raises `NotFound`."""
        return Shown(self._fields(resource, check_name("group", group)))

    def pause(self, resource: str, group: str, *, dry_run: bool = False) -> Change:
        """Hands out nothing more until `resume`; what is leased may still be acked."""
        return self._pause(resource, group, True, dry_run)

    def resume(self, resource: str, group: str, *, dry_run: bool = False) -> Change:
        """Ends `pause`."""
        return self._pause(resource, group, False, dry_run)

    def _pause(self, resource: str, group: str, paused: bool, dry_run: bool) -> Change:
        op = "consumer pause" if paused else "consumer resume"
        request = Pause(resource, check_name("group", group), paused)
        changed = run_request(self.session, self._log(resource), request, dry_run)
        if changed and not dry_run:
            self.session.note("changed", op, resource=resource, group=group)
        return Change(changed, resource=resource, group=group, after={"paused": paused}, dry_run=dry_run or None)

    def seek(self, resource: str, group: str, to: str, *, dry_run: bool = False) -> Change:
        """Moves the cursor to where `to` says (see `create`); backwards, finalised records come again."""
        request = Seek(resource, check_name("group", group), check_start(to))
        before, after, is_told = run_request(self.session, self._log(resource), request, dry_run)
        if before != after and not dry_run:
            self.session.note("changed", "consumer seek", resource=resource, group=group, cursor=after)
        return Change(
            before != after or is_told,
            resource=resource,
            group=group,
            before={"cursor": before},
            after={"cursor": after},
            dry_run=dry_run or None,
        )

    def shift(
        self,
        resource: str,
        group: str,
        *,
        as_: str,
        allow: Sequence[str],
        deny: Sequence[str] = (),
        proof: str,
        start: str | None = None,
        dry_run: bool = False,
    ) -> Shift:
        """Creates group `as_` in the lineage of `group`, in another place; needs a proof of the copy there."""
        check_name("group", as_)
        placement = parse_placement(allow, deny)
        log = self._log(resource)
        with self.session.audited(SHIFT, resource=resource, group=group):
            with log.view() as committed:
                before = group_fields(committed.state, resource, check_name("group", group))
                proof_id, claimed = _named_proof(resource, proof)
                stored = committed.state.get_json(keys.proof(proof_id)) if proof_id else None
                self._pass(committed.state, resource, placement, stored)
                self._covers_proof(resource, placement, stored)
            members = self.session.members()
            start = None if start is None else check_start(start)
            request = ShiftGroup(resource, group, as_, placement, proof_id, claimed, start, members)
            changed, row = run_request(self.session, log, request, dry_run)
        if changed and not dry_run:
            self.session.note(
                "changed", SHIFT, resource=resource, group=as_, origin=group, proof=proof_id, **placement.as_json()
            )
        unchanged = before["placement"] == self._fields(resource, group)["placement"]
        return Shift(
            resource,
            group,
            as_,
            row["lineage"],
            placement.as_json(),
            row["start"],
            proof_id,
            {"unchanged": unchanged},
            changed,
        )

    def _pass(self, state: State, resource: str, placement: Placement, stored: dict[str, Any] | None) -> None:
        """Raises `DomainUnavailable` unless the proven replica of the new placement, or any, can serve it now."""
        if not placement.allow:
            raise Usage("A shift needs --allow: the new place is written out in the command.")
        locator = state.get_json(keys.locator())
        covered = [
            item for item in locator["replicas"] if placement.decide(item["domain"])[0] and item["role"] == VOTER
        ]
        if not covered:
            raise DomainUnavailable(
                f"No replica of {resource} is where the new group would be allowed.",
                reason="not_in_locator",
                hint=f"Run `grafctl locator show {resource}` to see where its replicas are.",
                resource=resource,
                allowed=list(placement.allow),
            )
        proven = [item for item in covered if stored is not None and item["domain"] == stored["domain"]]
        health, refusals = self.session.health(), []
        for item in proven or covered:
            away = self.session.cluster.is_failed(item["domain"])
            try:
                pass_locator(Asked(SHIFT, resource, item["domain"]), locator, health, unreachable=away)
                return
            except DomainUnavailable as error:
                refusals.append(error)
        raise refusals[0]

    def _covers_proof(self, resource: str, placement: Placement, stored: dict[str, Any] | None) -> None:
        if stored is not None and not placement.decide(stored["domain"])[0]:
            raise ProofRequired(
                f"The proof is of {stored['domain']}, where the new group is not allowed.",
                hint=f"Run `grafctl catch-up {resource} -d DOMAIN` in a domain of the new placement.",
                resource=resource,
            )


def _named_proof(resource: str, proof: str) -> tuple[str, dict[str, Any] | None]:
    """Returns the id of a proof and, from a file, everything it claims."""
    if proof == "none" or not proof:
        raise ProofRequired(
            "A shift needs the proof of a catch-up.",
            hint=f"Run `grafctl catch-up {resource} -d DOMAIN --json > proof.json`, then pass --proof @proof.json.",
            resource=resource,
        )
    if not proof.startswith("@"):
        return proof[:200], None
    path = Path(proof[1:])
    try:
        with path.open("rb") as file:
            text = file.read(PROOF_FILE_BYTES_MAX)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Usage(f"{path} cannot be read: {why}.") from None
    try:
        claimed = json.loads((text.splitlines() or [b""])[-1])  # before it, `-o jsonl` prints what each phase came to
        proof_id = str(claimed["proof"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProofRequired(
            f"{path} is not the JSON of a catch-up.", hint="Pass what `grafctl catch-up … --json` printed."
        ) from None
    return proof_id[:200], claimed
