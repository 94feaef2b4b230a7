"""`locator`: which domains hold a resource, by generation.

Promises
- `set` takes exactly the next generation; the identical request again is answered with `changed: false`.
- A new replica counts only after its catch-up. A removal that would break the quorum or leave a group without a
  replica is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.errors import DomainUnavailable, GenerationConflict, NotFound, Usage
from grafctl.names import check_name
from grafctl.nouns.queues import check_replicas, parse_replica
from grafctl.results import Change, Listed, Shown
from grafctl.store import keys
from grafctl.store.authority import pass_generation, stranded_groups
from grafctl.store.driver.kill import point
from grafctl.store.log import Log
from grafctl.store.replica.scope import scoped, whole
from grafctl.store.replica.state import State
from grafctl.store.replicate import note_commit
from grafctl.store.resources.carried import numbers, policy_row
from grafctl.store.resources.membership import (
    CATCHING_UP,
    READY,
    WITNESS,
    SetLocator,
    new_voters,
    request_digest,
    require_locator,
    sizes_of,
    voters_of,
)
from grafctl.store.resources.queue import queue_row
from grafctl.store.session import Session

HEALTH_AGE_MS_MAX = 3_600_000
Locator = dict[str, Any]


def locator_fields(resource: str, locator: Locator, health: dict[str, str]) -> dict[str, Any]:
    """Returns what `locator show` prints."""
    replicas = [{**item, "health": health.get(item["domain"], "healthy")} for item in locator["replicas"]]
    return {"resource": resource, "generation": locator["generation"], "replicas": replicas}


def check_observed(session: Session, resource: str, domains: list[str], age_ms_max: int = HEALTH_AGE_MS_MAX) -> None:
    """Raises `DomainUnavailable` unless each new domain was observed as healthy, not too long ago."""
    observations = session.observations() if domains else {}
    for domain in domains:
        seen = observations.get(domain)
        if seen is not None and seen["status"] == "healthy" and clock.now_ms() - seen["observed_ms"] <= age_ms_max:
            continue
        what = (
            "was never observed as healthy"
            if seen is None
            else f"was observed as {seen['status']}"
            if seen["status"] != "healthy"
            else f"was last observed as healthy {(clock.now_ms() - seen['observed_ms']) // 1000} s ago"
        )
        raise DomainUnavailable(
            f"{domain} {what}, so it is not added to {resource}.",
            reason="unhealthy",
            hint=f"Run `grafctl health observe {domain} healthy --authority NAME --key-file NAME.key`.",
            resource=resource,
            domain=domain,
        )


class Locators:
    """The locators of one store's resources."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def show(self, resource: str) -> Shown:
        """Returns the locator in force."""
        with self._log(resource).view() as committed:
            locator = committed.state.get_json(keys.locator())
            epoch = queue_row(committed.state, resource)["epoch"]
        return Shown({**locator_fields(resource, locator, self.session.health()), "epoch": epoch})

    def history(self, resource: str) -> Listed:
        """Returns every generation, the newest last."""
        with self._log(resource).view() as committed:
            rows = [json.loads(body) for _, body in committed.state.scan(keys.locator_history())]
        return Listed("generations", [{"generation": row["generation"], "replicas": row["replicas"]} for row in rows])

    def _log(self, resource: str) -> Log:
        return self.session.resource(check_name("resource", resource))

    def set(
        self,
        resource: str,
        *,
        generation: int,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        from_file: Path | None = None,
        max_age_ms: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Puts the next generation in force: replicas added as `catching_up`, or taken out."""
        log = self._log(resource)
        added = [parse_replica(text) for text in add]
        removed = [check_name("replica", replica_id) for replica_id in remove]
        with self.session.audited("locator set", resource=resource):
            with log.view() as committed:
                before = committed.state.get_json(keys.locator())
                if from_file is not None:
                    added, removed = _difference(before, from_file)
                if not added and not removed and from_file is None:
                    raise Usage("Name what to --add or to --remove.")
                request = request_digest({"generation": generation, "add": added, "remove": sorted(removed)})
                self._check_nouns(before, request, added, removed)
                if before["generation"] == generation and before["request"] == request:
                    if not dry_run:  # a killed first try may have left the voters without knowing it is committed
                        note_commit(log.cluster, log.id, log.apply, log.settle())
                    return self._answer(resource, False, before, before, [], dry_run)
                pass_generation(resource, generation, before["generation"])
                _check_new(resource, before, added, removed)
                age_ms = HEALTH_AGE_MS_MAX if max_age_ms is None else max_age_ms
                check_observed(self.session, resource, [item["domain"] for item in added], age_ms)
                after = _next(before, generation, added, removed, request)
                self._check_left(committed.state, resource, before, after)
            actions = [f"add {item['id']} in {item['domain']} as {item['role']}, catching up" for item in added]
            actions += [f"remove {replica_id}" for replica_id in removed]
            if not dry_run:
                try:
                    self._put(log, resource, before, after)
                except GenerationConflict:
                    if not self._is_done(log, after):
                        raise
                point("locator.set")
        if not dry_run:
            self.session.note("changed", "locator set", resource=resource, generation=generation, actions=actions)
        return self._answer(resource, True, before, after, actions, dry_run)

    def _is_done(self, log: Log, after: Locator) -> bool:
        """Returns whether an earlier try, killed before its commit, was this very request: it is committed now."""
        with log.view() as committed:
            found: bool = committed.state.get_json(keys.locator()) == after
        return found

    def _answer(
        self, resource: str, changed: bool, before: Locator, after: Locator, actions: list[str], dry_run: bool
    ) -> Change:
        shown = {"generation": after["generation"], "replicas": after["replicas"]}
        return Change(
            changed,
            resource=resource,
            before={"generation": before["generation"]},
            after=shown,
            dry_run=dry_run or None,
            actions=actions,
        )

    def _check_nouns(self, before: Locator, request: str, added: list[dict[str, str]], removed: list[str]) -> None:
        """Raises for domains and replicas that are not there."""
        check_replicas(self.session, added)
        if before["request"] == request:
            return
        ids = [item["id"] for item in before["replicas"]]
        for replica_id in removed:
            if replica_id not in ids:
                raise NotFound(f"There is no replica {replica_id}.", hint="Run `grafctl locator show` to see the ids.")

    def _check_left(self, state: State, resource: str, before: Locator, after: Locator) -> None:
        """Raises when the voters that are left break the rule, or a group is left without a replica."""
        policy = policy_row(state)
        sizes_of(voters_of(after, self.session.members()), policy["ack"], policy["min_payload"])
        rows = (scoped(whole(state), number).scan(keys.groups()) for number in numbers(state))
        groups = [json.loads(body) for _, body in chain.from_iterable(rows)]
        stranded = set(stranded_groups(groups, _serving(after))) - set(stranded_groups(groups, _serving(before)))
        if stranded:
            names = ", ".join(sorted(stranded))
            raise DomainUnavailable(
                f"Without these replicas no domain is left that group {names} of {resource} may poll in.",
                reason="not_in_locator",
                hint=f"Shift the group first with `grafctl consumer shift`, or change where it may be: "
                f"`grafctl placement set {resource} --group {sorted(stranded)[0]}`.",
                resource=resource,
                group=sorted(stranded)[0],
            )

    def _put(self, log: Log, resource: str, before: Locator, after: Locator) -> None:
        members = self.session.members()
        if voters_of(before, members) == voters_of(after, members):
            log.append(SetLocator(resource, before, after))
            return

        def change(state: State, _: Any) -> Any:
            require_locator(state, resource, before)
            return new_voters(state, after, members)

        log.change_voters(change, frozenset(voter.member for voter in voters_of(after, members)))


def _check_new(resource: str, before: Locator, added: list[dict[str, str]], removed: list[str]) -> None:
    """Raises `GenerationConflict` for a replica that is there already."""
    left = [item for item in before["replicas"] if item["id"] not in removed]
    for item in added:
        for name in ("id", "domain"):
            if any(item[name] == other[name] for other in left):
                raise GenerationConflict(
                    f"The {name} {item[name]} is in the locator of {resource} already.",
                    hint=f"Run `grafctl locator show {resource}`.",
                    resource=resource,
                )


def _serving(locator: Locator) -> list[str]:
    return [item["domain"] for item in locator["replicas"] if item["state"] == READY and item["role"] != WITNESS]


def _next(before: Locator, generation: int, added: list[dict[str, str]], removed: list[str], request: str) -> Locator:
    replicas = [item for item in before["replicas"] if item["id"] not in removed]
    replicas += [{**item, "state": CATCHING_UP, "content_generation": None} for item in added]
    return {"generation": generation, "replicas": replicas, "request": request}


def _difference(before: Locator, file: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Returns what to add and to remove so that the locator is the one of a TOML file with `[[replica]]` tables."""
    from grafctl.declare.replicas import read_replicas

    wanted = [parse_replica(text) for text in read_replicas(file)]
    there = {item["id"]: item for item in before["replicas"]}
    added = [item for item in wanted if item["id"] not in there or there[item["id"]]["domain"] != item["domain"]]
    kept = {item["id"] for item in wanted if item not in added}
    return added, [replica_id for replica_id in there if replica_id not in kept]
