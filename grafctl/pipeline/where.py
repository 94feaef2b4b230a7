"""Where a stage may run: its own placement, and what the placements and replicas of all that it touches say to that.

Promises
- Pure: policies of a file in, one `Spot` for each stage and domain out, each with the rule that decides and its line.
- `validate` and `plan` read the same spots, so they cannot disagree. The gate of the store decides again when a stage
  runs; a spot says what it will find where nothing has been changed since `apply`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from grafctl.declare.resources import DeclaredResource
from grafctl.declare.store import Declaration
from grafctl.names import shown
from grafctl.store.authority import Placement
from grafctl.store.resources.membership import VOTER


class Policy(NamedTuple):
    """A placement, and the lines in which it stands: of its table under "", of `allow`, of `deny`."""

    placement: Placement
    lines: Mapping[str, int]

    def decide(self, domain: str) -> tuple[bool, str, int]:
        """Returns whether it covers a domain, by which rule, and the line of that."""
        covered, rule = self.placement.decide(domain)
        key = rule.partition(" ")[0] if covered or rule.startswith("deny") else "allow"
        return covered, rule, self.lines.get(key, self.lines[""])


def title_of(resource: DeclaredResource) -> str:
    """Returns how a sentence calls a resource."""
    return f"{resource.kind} {shown(resource.name)}"


def log_of(resource: DeclaredResource) -> str:
    """Returns the log that a resource is in; resources with one log change in one commit."""
    return resource.log or resource.name


def replicas_line(store: Declaration, resource: DeclaredResource) -> int:
    """Returns the line in which the replicas of a resource stand: its own, or those of its log."""
    log = store.logs.get(resource.log or "")
    lines = log.lines if log else resource.lines
    return lines.get("replicas", lines[""])


class Use(NamedTuple):
    """One resource that a stage touches, and what it does there."""

    does: str
    resource: DeclaredResource


class Spot(NamedTuple):
    """One stage in one domain."""

    stage: str
    domain: str
    allowed: bool  # by the stage's own placement
    rule: str
    line: int
    refusals: tuple[str, ...]  # why it cannot work there all the same

    @property
    def runs(self) -> bool:
        return self.allowed and not self.refusals


class Gate:
    """What the placements of resources say, each asked once for a domain."""

    def __init__(self) -> None:
        self._decided: dict[tuple[str, str], tuple[bool, str, int]] = {}

    def decide(self, resource: DeclaredResource, domain: str) -> tuple[bool, str, int]:
        """Returns what the policy of a resource says to a domain."""
        found = self._decided.get((resource.name, domain))
        if found is None:
            found = Policy(resource.placement, resource.lines).decide(domain)
            self._decided[resource.name, domain] = found
        return found


def spots_of(
    stage: str, policy: Policy, origin: DeclaredResource | None, uses: Iterable[Use], store: Declaration, gate: Gate
) -> Iterator[Spot]:
    """Yields the spot of each declared domain; `origin` is the input of the stage."""
    uses = list(uses)
    for domain in store.domains:
        allowed, rule, line = policy.decide(domain)
        refusals = (*_of_input(domain, origin, store), *_of_uses(domain, uses, gate)) if allowed else ()
        yield Spot(stage, domain, allowed, rule, line, refusals)


def _of_input(domain: str, origin: DeclaredResource | None, store: Declaration) -> Iterator[str]:
    if origin is None or any(item["domain"] == domain and item["role"] == VOTER for item in origin.replicas):
        return
    line = replicas_line(store, origin)
    yield f"no replica of its input {title_of(origin)} keeps payloads there (line {line})"


def _of_uses(domain: str, uses: Iterable[Use], gate: Gate) -> Iterator[str]:
    for use in uses:
        covered, rule, line = gate.decide(use.resource, domain)
        if not covered:
            yield f"it may not {use.does} {title_of(use.resource)} there ({rule}, line {line})"
