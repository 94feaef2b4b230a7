"""`consumer attach` and what follows: one consumer at a time from the output of an old engine to that of a new one.

Promises
- The consumer keeps polling by the name it always had; the store hands it the records of the side that is open.
- Every change passes the placement of both groups from the caller's domain, and is audited.
- A verb that was cut short is finished by the same command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafctl import clock
from grafctl.errors import Usage
from grafctl.names import check_name
from grafctl.nouns.soaks import Soaks, compared_of, soak_of
from grafctl.results import Change, Listed, Shown
from grafctl.store import switch_rules
from grafctl.store.intervals import size
from grafctl.store.operations.switching.attaching import attach, detach
from grafctl.store.operations.switching.work import Here, all_rows, look, row_of, side_of
from grafctl.store.switch_fields import check_fields
from grafctl.store.switch_match import ID, check_match
from grafctl.store.switch_rules import SIDES, SOURCE, TARGET, in_flight, left_ms, phase_of

WINDOW_MS = 600_000
_SHOWN = ("state", "side", "generation")
_KEPT = ("match", "risk", "shape", "window_ms", "soak_since_ms", "flipped_ms", "cursors")


class Switches(Soaks):
    """The switches of one store."""

    def attach(
        self,
        name: str,
        *,
        source: str,
        target: str,
        group: str,
        target_group: str | None = None,
        match: str = ID,
        fields: Sequence[str] = (),
        window_ms: int = WINDOW_MS,
        rules: Mapping[str, Any] | None = None,
        risk: str = "low",
        shape: str | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Ties a consumer's group of `source` to its group of `target`; both must be there. The consumer reads on from
        the source, by the same name, until `switch`."""
        check_name("switch", name)
        places = {
            SOURCE: {"resource": check_name("resource", source), "group": check_name("group", group)},
            TARGET: {"resource": check_name("resource", target), "group": check_name("group", target_group or group)},
        }
        if source == target:
            raise Usage(
                "The source and the target of a switch are two resources.", hint="Name the new engine's output."
            )
        definition: dict[str, Any] = {**places, "match": check_match(match)}
        definition["compare"] = {"fields": check_fields(list(fields))}
        definition["rules"] = switch_rules.check_rules(rules or {})
        definition["window_ms"] = switch_rules.check_window(window_ms)
        definition["risk"] = switch_rules.check_risk(risk)
        definition["shape"] = None if shape is None else switch_rules.check_text("shape", shape)
        op = "consumer attach"
        with self.session.audited(op, switch=name, resource=source, group=group):
            answer = attach(self.session, name, definition, dry_run=dry_run)
        actions = [
            f"close group {places[TARGET]['group']} of {target}",
            f"route the polls of group {group} of {source}",
        ]
        if answer.changed and not dry_run:
            self.session.note("changed", op, switch=name, resource=source, group=group, target=target)
        shown = {"switch": name, **{field: answer.row[field] for field in (*_SHOWN, SOURCE, TARGET, "match")}}
        return _change(answer.changed, source, group, None, shown, actions, dry_run=dry_run)

    def detach(self, name: str, *, dry_run: bool = False) -> Change:
        """Frees both groups. That of the closed side is paused, so that nobody reads there what was finished here."""
        op = "consumer detach"
        check_name("switch", name)
        with self.session.audited(op, switch=name):
            row = detach(self.session, name, dry_run=dry_run)
        place, closed = row[row["side"]], row[SIDES[1 - SIDES.index(row["side"])]]
        actions = [f"pause group {closed['group']} of {closed['resource']}", "free both groups", f"forget {name}"]
        if not dry_run:
            self.session.note("changed", op, switch=name, state=row["state"], resource=place["resource"])
        before = {"switch": name, **{field: row[field] for field in _SHOWN}}
        return _change(True, place["resource"], place["group"], before, {"paused": closed}, actions, dry_run=dry_run)

    def status(self, name: str | None = None) -> Shown | Listed:
        """Returns one switch with both its sides as they are now, or what every switch is at."""
        if name is None:
            found = all_rows(self.session)
            return Listed("switches", [self._line(name, row) for name, row in sorted(found.items())])
        row = row_of(self.session, check_name("switch", name))
        sides = {side: self._side_fields(name, row, side) for side in SIDES}
        more = {field: row[field] for field in _KEPT if row[field] is not None}
        more |= {"wave": row["wave"], "rules": row["rules"], "fields": row["compare"]["fields"]}
        judged = {"shadow": compared_of(row["shadow"]), "soak": soak_of(row), "flips": row["flips"]}
        return Shown({**self._line(name, row), **sides, **more, **judged})

    def _line(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        line = {"switch": name, **{field: row[field] for field in _SHOWN}, "phase": phase_of(row)}
        line |= {"in_flight": in_flight(row), "open": dict(row[row["side"]]), "window_left_ms": None}
        return line | {"window_left_ms": left_ms(row, clock.now_ms())}

    def _side_fields(self, name: str, row: Mapping[str, Any], side: str) -> dict[str, Any]:
        at = side_of(self.session, name, row, side)
        here: Here = look(at)
        switch = here.switch or {"open": False, "generation": None, "owed": 0}
        return {
            "resource": at.resource,
            "group": at.group,
            "open": switch["open"],
            "generation": switch["generation"],
            "ack_floor": here.lineage.floor,
            "cursor": here.row["cursor"],
            "next": here.queue["next"],
            "leased": size(here.lineage.leased),
            "dead": size(here.lineage.dead),
            "finalised": here.lineage.finalised,
            "owed": switch["owed"],
        }


def _change(
    changed: bool,
    resource: str,
    group: str,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    actions: Sequence[str],
    *,
    dry_run: bool,
) -> Change:
    return Change(
        changed,
        resource=resource,
        group=group,
        before=before,
        after=after,
        dry_run=dry_run or None,
        actions=[*actions] if changed else [],
    )
