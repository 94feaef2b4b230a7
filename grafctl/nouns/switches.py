"""`consumer attach` and what follows: one consumer at a time from the output of an old engine to that of a new one.

Promises
- The consumer keeps polling by the name it always had; the store hands it the records of the side that is open.
- Every change passes the placement of both groups from the caller's domain, and is audited.
- A verb that was cut short is finished by the same command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.errors import Busy, GenerationConflict, Usage
from grafctl.names import check_domain, check_name
from grafctl.nouns.soaks import DRAIN_MS, Progress, Soaks, check_grace, compared_of, soak_of
from grafctl.results import Change, Listed, Shown
from grafctl.store import switch_rules
from grafctl.store.intervals import size
from grafctl.store.operations.switching.attaching import attach, detach
from grafctl.store.operations.switching.compared import check_from
from grafctl.store.operations.switching.comparing import compare
from grafctl.store.operations.switching.locking import judge_before_lock, let_go
from grafctl.store.operations.switching.tables import side_fields
from grafctl.store.operations.switching.turning import open_side, turn
from grafctl.store.operations.switching.work import (
    Here,
    all_rows,
    look,
    pass_gate,
    row_of,
    run_request,
    settled_row,
    side_of,
)
from grafctl.store.resources.switches import Flip, Lock, Switched, pass_compared
from grafctl.store.switch_fields import check_fields
from grafctl.store.switch_match import ID, check_match
from grafctl.store.switch_rules import (
    CLOSING,
    ROLLED_BACK,
    SHADOW,
    SIDES,
    SOAKING,
    SOURCE,
    SWITCHED,
    TARGET,
    check_drain,
    check_move,
    check_side,
    in_flight,
    is_closing,
    is_of_tables,
    left_ms,
    moved_on,
    pass_flight,
    phase_of,
)

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
        actions = [f"close group {places[TARGET]['group']} of {target}"]
        actions += [f"route the polls of group {group} of {source}"]
        if is_of_tables(answer.row):
            actions = [f"route what group {group} reads of {source}"]
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
        paused: dict[str, Any] = {"paused": closed}
        if is_of_tables(row):
            is_back = row["side"] == SOURCE
            actions = [f"free group {place['group']} of {place['resource']}", f"forget {name}"]
            actions[:0] = [] if is_back else [f"refuse what group {closed['group']} reads of {closed['resource']}"]
            paused = {} if is_back else {"refused": closed}
        if not dry_run:
            self.session.note("changed", op, switch=name, state=row["state"], resource=place["resource"])
        before = {"switch": name, **{field: row[field] for field in _SHOWN}}
        return _change(True, place["resource"], place["group"], before, paused, actions, dry_run=dry_run)

    def switch(
        self,
        name: str,
        to: str,
        *,
        domain: str,
        drain_ms: int = DRAIN_MS,
        compare_from: str | None = None,
        grace_ms: int | None = None,
        wave: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Brings a consumer to the `target`, after a comparison of both outputs, or back to the `source`.

        `compare_from` and `grace_ms` are those of `compare`.
        `wave` is a name and how many of its switches may be in flight `at_once`. What was cut short goes on.
        """
        check_name("switch", name)
        check_domain(domain)
        if check_side(to) == SOURCE:
            return self.rollback(name, domain=domain, drain_ms=drain_ms, progress=progress, dry_run=dry_run)
        check_drain(drain_ms)
        how: dict[str, Any] = {"compare_from": check_from(compare_from), "grace_ms": check_grace(grace_ms)}
        op = "consumer switch"
        with self.session.audited(op, switch=name, domain=domain):
            row = (row_of if dry_run else settled_row)(self.session, name)
            pass_gate(self.session, name, row, domain, TARGET)
            if row["state"] in (SWITCHED, SOAKING) and row["phase"] is None:
                return self._turned(op, name, row, domain, dry_run=dry_run)
            self._may_switch(name, row, wave)
            if dry_run:
                return self._would(name, row, TARGET)
            try:
                now = row
                if not is_closing(row, TARGET):
                    compare(self.session, name, row, domain, begins=True, tell=progress, **how)
                    now = row_of(self.session, name)
                    if now["generation"] != row["generation"]:
                        raise moved_on(name, now, row["generation"])
                    pass_compared(name, now)
                flip: dict[str, Any] = {"drain_ms": drain_ms, "why": "switch", "wave": wave, "tell": progress}
                turned = turn(self.session, name, now, TARGET, **flip)
            except GenerationConflict as error:
                return self._helped(op, name, row, TARGET, domain, error)
        self._note_flip(op, name, turned, domain)
        return self._flip_change(True, row, turned, TARGET, name)

    def _may_switch(self, name: str, row: Mapping[str, Any], wave: Mapping[str, Any] | None) -> None:
        """Raises the refusal of a switch that cannot be brought to its target now."""
        if row["state"] in (SOURCE, SHADOW, ROLLED_BACK) and phase_of(row) in (None, CLOSING):
            if row["phase"] is None:
                pass_flight(name, all_rows(self.session), wave)
            return
        if row["phase"] is not None:
            raise Busy(
                f"Switch {name} is {phase_of(row)}.",
                hint=f"Run `grafctl consumer status {name}`, and try again when that is over.",
                switch=name,
            )
        check_move(name, row["state"], SWITCHED)

    def rollback(
        self,
        name: str,
        *,
        domain: str,
        drain_ms: int = DRAIN_MS,
        why: str = "rollback",
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Brings a consumer back to the source, from any state before `locked`; finished work stays finished."""
        op = "consumer rollback"
        check_name("switch", name)
        check_domain(domain)
        check_drain(drain_ms)
        with self.session.audited(op, switch=name, domain=domain):
            row = (row_of if dry_run else settled_row)(self.session, name)
            pass_gate(self.session, name, row, domain, SOURCE)
            if row["state"] == ROLLED_BACK and row["phase"] is None:
                return self._turned(op, name, row, domain, dry_run=dry_run)
            check_move(name, row["state"], ROLLED_BACK)
            if dry_run:
                return self._would(name, row, SOURCE)
            try:
                if row["side"] == TARGET:
                    turned = turn(self.session, name, row, SOURCE, drain_ms=drain_ms, why=why, tell=progress)
                else:
                    flip = Flip(name, row["generation"], SOURCE, why, rolls_back=True)
                    turned = open_side(self.session, name, self.session.control.append(flip).answer.row)
            except GenerationConflict as error:
                return self._helped(op, name, row, SOURCE, domain, error)
        self._note_flip(op, name, turned, domain, why=why)
        return self._flip_change(True, row, turned, SOURCE, name)

    def lock(self, name: str, *, domain: str, dry_run: bool = False) -> Change:
        """Gives up the way back, once the window is over and the rules are kept; what was kept for it is let go of."""
        op = "consumer lock"
        check_name("switch", name)
        check_domain(domain)
        with self.session.audited(op, switch=name, domain=domain):
            row = (row_of if dry_run else settled_row)(self.session, name)
            pass_gate(self.session, name, row, domain)
            request = Lock(name, row["generation"])
            answer: Switched = run_request(self.session.control, request, True)
            if answer.changed:
                judge_before_lock(self.session, name, row, domain, drain_ms=DRAIN_MS, dry_run=dry_run)
            if not dry_run:
                answer = self.session.control.append(request).answer
                let_go(self.session, name, answer.row)
        if answer.changed and not dry_run:
            self.session.note("changed", op, switch=name, domain=domain, **answer.row[TARGET])
        actions = ["give up the way back"]
        actions += [] if is_of_tables(row) else [f"let retention of {row[TARGET]['resource']} go on"]
        shown = {"switch": name, **{field: answer.row[field] for field in _SHOWN}}
        place = row[TARGET]
        before = {field: row[field] for field in _SHOWN}
        return _change(answer.changed, place["resource"], place["group"], before, shown, actions, dry_run=dry_run)

    def _turned(self, op: str, name: str, row: dict[str, Any], domain: str, *, dry_run: bool) -> Change:
        """Returns the answer for a switch that has flipped; what an operator who died left is done."""
        turned = row if dry_run else open_side(self.session, name, row)
        if turned != row:
            self._note_flip(op, name, turned, domain)
        return self._flip_change(turned != row, row, turned, row["side"], name, dry_run=dry_run)

    def _helped(
        self, op: str, name: str, row: Mapping[str, Any], to: str, domain: str, error: GenerationConflict
    ) -> Change:
        """Returns the answer for whom another operator has outrun who wanted the same; raises the refusal otherwise."""
        now = row_of(self.session, name)
        states = (SWITCHED, SOAKING) if to == TARGET else (ROLLED_BACK,)
        if now["generation"] != row["generation"] + 1 or now["state"] not in states or now["phase"] is not None:
            raise error
        return self._turned(op, name, now, domain, dry_run=False)

    def _would(self, name: str, row: Mapping[str, Any], to: str) -> Change:
        return self._flip_change(True, row, row, to, name, dry_run=True)

    def _note_flip(self, op: str, name: str, row: Mapping[str, Any], domain: str, **about: Any) -> None:
        place = row[row["side"]]
        about |= {"state": row["state"], "generation": row["generation"], "cursors": row["cursors"]}
        self.session.note("changed", op, switch=name, domain=domain, **place, **about)

    def _flip_change(
        self,
        changed: bool,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        to: str,
        name: str,
        *,
        dry_run: bool = False,
    ) -> Change:
        place, source = after[to], after[SIDES[1 - SIDES.index(to)]]
        actions = ["compare both outputs"] if to == TARGET and before["phase"] is None else []
        if is_of_tables(before):
            actions += [f"let group {source['group']} read {place['resource']} instead of {source['resource']}"]
        else:
            actions += [f"close group {source['group']} of {source['resource']}, and carry what it has finished"]
            actions += [f"open group {place['group']} of {place['resource']}"]
        was = {field: before[field] for field in _SHOWN}
        shown = {"switch": name, **{field: after[field] for field in (*_SHOWN, "cursors")}}
        return _change(changed, place["resource"], place["group"], was, shown, actions, dry_run=dry_run)

    def plan(self, file: str | Path, *, domain: str | None = None, lock: bool = True, again: bool = False) -> Shown:
        """Returns a declared wave in its order, with how far everybody is; with a domain also what `wave` would do."""
        from grafctl.nouns.waves import plan

        return plan(self.session, Path(file), domain=domain, lock=lock, again=again)

    def wave(
        self,
        file: str | Path,
        *,
        domain: str,
        lock: bool = True,
        again: bool = False,
        watch: Callable[[dict[str, Any]], None] | None = None,
    ) -> Shown:
        """Switches the consumers of a declared wave in its order, and returns what came of each; `watch` is told of
        each change. Without `lock` those whose window is over are left soaking; with `again` those that this wave
        brought back are tried once more."""
        from grafctl.nouns.wave_running import run_wave

        return run_wave(self.session, Path(file), domain=domain, lock=lock, again=again, watch=watch)

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
        if is_of_tables(row):
            return side_fields(self.session, row, side)
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
