"""The gate: may this domain do this now? Every operation passes here before anything is touched, and again inside its
transaction.

Promises
- The order of checks is fixed: placement (11), epoch (14), generation (13), locator (11 or 12), health (12).
- Deny wins over allow; without a covering allow line nothing is allowed. There is no default domain and no way round.
- `can` and the operations ask the same function, so they cannot disagree.
"""

from __future__ import annotations

from grafctl.errors import DomainUnavailable, Fenced, GenerationConflict
from grafctl.names import first_cover
from grafctl.store.records import digest, encode_json
from grafctl.typed import Any, Mapping, NamedTuple, Sequence

POLL, PEEK, PUBLISH, ACK, NACK, CATCH_UP, SHIFT = "poll", "peek", "publish", "ack", "nack", "catch-up", "shift"
RESERVE, COMPLETE, RELEASE, EXPIRE = "reserve", "complete", "release", "expire"
ACQUIRE, RENEW = "acquire", "renew"
CREATE, PUSH, POP = "create", "push to", "pop from"
COMPARE = "compare"
SWITCH = "switch"
PUT, GET, DELETE, SCAN, MIGRATE = "put", "get", "delete", "scan", "migrate"

#: operation -> whose placement decides, and whether the caller's own domain must hold a ready, healthy replica
OPERATIONS: dict[str, tuple[str, bool]] = {
    PUBLISH: ("resource", False),
    POLL: ("group", True),
    ACK: ("group", False),
    NACK: ("group", False),
    PEEK: ("resource", True),
    CATCH_UP: ("none", False),
    RESERVE: ("resource", False),
    COMPLETE: ("resource", False),
    RELEASE: ("resource", False),
    EXPIRE: ("resource", False),
    PUT: ("resource", False),
    GET: ("resource", False),
    DELETE: ("resource", False),
    SCAN: ("resource", False),
    MIGRATE: ("resource", False),
}


class Placement(NamedTuple):
    """Which domains may use a resource or a group; patterns as they were typed."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]

    @staticmethod
    def of(row: Mapping[str, Any]) -> Placement:
        """Returns the placement of a queue's or a group's row."""
        return Placement(tuple(row["allow"]), tuple(row["deny"]))

    def as_json(self) -> dict[str, list[str]]:
        body = {"allow": list(self.allow)}
        return body | {"deny": list(self.deny)} if self.deny else body

    def digest(self) -> str:
        """Returns what `--expect` compares."""
        return "pl_" + digest(encode_json([list(self.allow), list(self.deny)])).hex()[:20]

    def decide(self, domain: str) -> tuple[bool, str]:
        """Returns whether a domain is covered, and by which line."""
        denied = first_cover(self.deny, domain)
        if denied is not None:
            return False, f"deny {denied}"
        allowed = first_cover(self.allow, domain)
        if allowed is not None:
            return True, f"allow {allowed}"
        return False, "no allow line covers it"


class Asked(NamedTuple):
    """Who asks for what."""

    op: str
    resource: str
    domain: str
    group: str | None = None
    epoch: int | None = None
    known: bool = True  # whether the store knows the domain


def pass_placement(asked: Asked, placement: Placement) -> str:
    """Returns the line that allows it; raises `DomainUnavailable` (11)."""
    allowed, line = placement.decide(asked.domain)
    if asked.known and allowed:
        return line
    holder = f"group {asked.group}" if asked.group else f"resource {asked.resource}"
    why = f"{holder} does not allow it ({line})" if asked.known else "the store does not know this domain"
    raise DomainUnavailable(
        f"{asked.domain} may not {asked.op} {asked.resource}: {why}.",
        reason="not_in_placement",
        hint=f"Run `grafctl placement show {asked.resource}{_group_flag(asked)}` to see who may.",
        resource=asked.resource,
        group=asked.group,
        domain=asked.domain,
        allowed=[_as_glob(pattern) for pattern in placement.allow],
        denied=[_as_glob(pattern) for pattern in placement.deny] or None,
        by=line,
    )


def _group_flag(asked: Asked) -> str:
    return f" --group {asked.group}" if asked.group else ""


def _as_glob(pattern: str) -> str:
    return pattern if pattern.endswith("*") else f"{pattern}/**"


def pass_epoch(asked: Asked, current: int) -> None:
    """Raises `Fenced` (14) when the caller's epoch is older than the one in force."""
    if asked.epoch is not None and asked.epoch < current:
        raise Fenced(
            f"Epoch {asked.epoch} of {asked.group or asked.resource} is over; {current} is in force.",
            hint="Take part again with the current epoch, or stop: another took over.",
            resource=asked.resource,
            group=asked.group,
            domain=asked.domain,
            epoch=asked.epoch,
            current=current,
        )


def pass_locator(
    asked: Asked, locator: Mapping[str, Any], health: Mapping[str, str], *, unreachable: bool = False
) -> str:
    """Returns the replica that serves the caller; raises `DomainUnavailable` (11 not named, 12 not yet or not now)."""
    replica = next((item for item in locator["replicas"] if item["domain"] == asked.domain), None)
    common: dict[str, Any] = {"resource": asked.resource, "group": asked.group, "domain": asked.domain}
    common["generation"] = locator["generation"]
    if replica is None or replica["role"] == "witness":
        what = "keeps no payload there" if replica else f"names no replica in {asked.domain}"
        raise DomainUnavailable(
            f"{asked.domain} may not {asked.op} {asked.resource}: the locator {what}.",
            reason="not_in_locator",
            hint=f"Run `grafctl locator show {asked.resource}` to see where its replicas are.",
            **common,
        )
    pass_health(asked, health, **common)
    if replica["state"] != "ready" and asked.op != CATCH_UP:
        raise DomainUnavailable(
            f"The replica in {asked.domain} is not caught up.",
            reason="not_caught_up",
            hint=f"Run `grafctl catch-up {asked.resource} -d {asked.domain}`.",
            **common,
        )
    if unreachable:
        raise DomainUnavailable(
            f"{asked.domain} cannot be reached.",
            reason="unreachable",
            hint=f"Run `grafctl domain show {asked.domain}`.",
            **common,
        )
    return str(replica["id"])


def pass_health(asked: Asked, health: Mapping[str, str], **fields: Any) -> None:
    """Raises `DomainUnavailable` (12) when the domain was last observed as anything but healthy."""
    status = health.get(asked.domain, "healthy")
    if status != "healthy":
        raise DomainUnavailable(
            f"{asked.domain} was observed as {status}.",
            reason="unhealthy",
            hint="Run `grafctl health list` to see who observed it and when.",
            **(fields or {"resource": asked.resource, "domain": asked.domain}),
        )


def pass_segment(asked: Asked, home: str | None = None) -> None:
    """Raises `DomainUnavailable` (11) unless the store knows the caller's domain and the leased segment is in it."""
    if asked.known and home in (None, asked.domain):
        return
    why = f"its segment is in {home}, and is nobody else's" if asked.known else "the store does not know this domain"
    raise DomainUnavailable(
        f"{asked.domain} may not {asked.op} {asked.resource}: {why}.",
        reason="not_in_placement",
        hint="Run `grafctl lease list` to see where it is." if asked.known else "Run `grafctl domain list`.",
        lease=asked.resource,
        domain=asked.domain,
    )


def pass_generation(resource: str, asked: int, current: int) -> None:
    """Raises `GenerationConflict` (13) unless `asked` is exactly the next generation."""
    if asked != current + 1:
        raise GenerationConflict(
            f"{resource} is at generation {current}; the next one is {current + 1}, not {asked}.",
            hint=f"Run `grafctl locator show {resource}` and ask for generation {current + 1}.",
            resource=resource,
            generation=current,
            asked=asked,
        )


def stranded_groups(groups: Sequence[Mapping[str, Any]], domains: Sequence[str]) -> list[str]:
    """Returns the groups whose placement covers none of these domains."""
    return [group["name"] for group in groups if not any(Placement.of(group).decide(domain)[0] for domain in domains)]
