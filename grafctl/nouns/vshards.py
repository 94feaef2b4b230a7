"""`vshard`: where the vshards of a table are, and their migration to other domains while they are written.

Promises
- Placement and health of every target domain are asked before anything is made.
- Each call goes on from what the logs hold: `migrate` again, or `resume`, after a kill; `cancel` until the flip, never
  after it.
- Several vshards are moved one by one, or some at once; one that fails keeps its copy and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from grafctl import clock
from grafctl.errors import GenerationConflict, Usage
from grafctl.names import check_domain
from grafctl.nouns import moves
from grafctl.nouns.parts import Parts, check_targets, domains_of, find_part
from grafctl.results import Change, Listed, Migrated, Shown
from grafctl.store.authority import MIGRATE
from grafctl.store.moving_rules import COMPLETED, CUTOVER, FAILED, IDLE, POLICIES, REVERSED, Limits, checked_limits
from grafctl.store.operations.moving.ending import cancel, retire
from grafctl.store.operations.moving.situation import Situation, parts_of, situation_of
from grafctl.store.operations.moving.work import Watch
from grafctl.store.operations.routing import Table, table_of
from grafctl.store.operations.table_rows import vshard_rows
from grafctl.store.operations.tables import caller_of
from grafctl.store.resources.moving import CANCELLING, COPYING, Amend, Begin, Place
from grafctl.store.resources.table import MOVED, Caller, write_rate
from grafctl.store.session import Session

PATIENCE_MS = 30_000
AT_ONCE = 1
_LIMITS = Limits()
USUAL: dict[str, Any] = {**_LIMITS._asdict(), "rate": None, "policy": POLICIES[0], "patience_ms": PATIENCE_MS}
Answers = list[Migrated]
Numbers = list[int]
Bodies = list[dict[str, Any]]


class Vshards:
    """The vshards of the tables of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    # --- looking

    def list(self, table: str, vshards: Sequence[int] | None = None) -> Listed:
        """Returns each vshard with its owner, size and write rate; those that were never used are in the home."""
        known = table_of(self.session, table)
        chosen = range(known.vshards) if vshards is None else [known.check(number) for number in vshards]
        away: dict[str, str] = {}
        rows = vshard_rows(self.session, table, away)
        domains = {part: domains_of(self.session, part) for part in parts_of(self.session, table)}
        now_ms = clock.now_ms()
        items = []
        for number in chosen:
            part = known.part_of(number)
            if number not in rows and part in away:
                items.append({"vshard": number, "part": part, "owner": domains[part], "trouble": away[part]})
                continue
            row = rows.get(number) or {"part": known.part_of(number), "generation": 1, "records": 0, "bytes": 0}
            owner = {"part": row["part"], "owner": domains[row["part"]], "generation": row["generation"]}
            sizes = {
                "records": row["records"],
                "bytes": row["bytes"],
                "writes_per_s": round(write_rate(row, now_ms), 2),
            }
            items.append({"vshard": number, **owner, **sizes})
        return Listed("vshards", items)

    def show(self, table: str, vshard: int) -> Shown:
        """Returns one vshard: owner, size, rate, and how far a migration of it is."""
        found = situation_of(self.session, table, vshard)
        row = found.owner.row or {}
        kept = found.other.part if found.other is not None and found.migration is None else None
        return Shown(
            {
                "table": table,
                "vshard": vshard,
                "state": found.state,
                "part": found.owner.part,
                "owner": domains_of(self.session, found.owner.part),
                "generation": row["generation"],
                "records": row["records"],
                "bytes": row["bytes"],
                "writes": row["seq"],
                "writes_per_s": round(write_rate(row, clock.now_ms()), 2),
                "limit_per_s": row.get("limit"),
                "kept_copy": kept,
                "migration": moves.migration_fields(self.session, found),
            }
        )

    def status(self, table: str, vshards: Sequence[int] | None = None) -> Listed:
        """Returns the vshards that are being moved, or have a way back, or these."""
        known = table_of(self.session, table)
        if vshards is None:
            vshards = moves.touched(self.session, table)
        return Listed("vshards", [self.show(table, known.check(number)).body for number in vshards])

    def under_way(self, table: str) -> Numbers:
        """Returns the vshards whose migration `resume` would go on with."""
        return moves.under_way(self.session, table_of(self.session, table).name)

    def left(self, table: str, vshards: Sequence[int]) -> Bodies:
        """Returns the state of each of these vshards, and nothing else: a command was interrupted and says it."""
        found = moves.touched(self.session, table)
        states = {number: situation_of(self.session, table, number).state for number in {*vshards} & {*found}}
        return [{"vshard": number, "state": states.get(number, IDLE)} for number in vshards]

    # --- moving

    def migrate(
        self,
        table: str,
        vshards: Sequence[int],
        *,
        to: Sequence[str],
        domain: str,
        budget_us: int = _LIMITS.budget_us,
        lock_wait_us: int = _LIMITS.lock_wait_us,
        max_lag: int = _LIMITS.max_lag,
        rate: int | None = None,
        policy: str = POLICIES[0],
        patience_ms: int = PATIENCE_MS,
        hold_cutover: bool = False,
        at_once: int = AT_ONCE,
        epoch: int | None = None,
        watch: Watch | None = None,
        dry_run: bool = False,
    ) -> Answers:
        """Moves vshards to a log in exactly these domains, while they are written; returns how far each was brought.

        `budget_us` bounds how long writers of a vshard may wait, `rate` how many bytes a second are copied. `policy`
        says what follows when for `patience_ms` writers outrun the catch-up. Raises what failed first, when all are
        done.
        """
        known, caller = self._admitted(table, vshards, domain, epoch)
        targets = sorted({check_domain(item) for item in to})
        if not targets:
            raise Usage("A vshard is moved to at least one domain.", hint="Name them with --to DOMAIN,DOMAIN.")
        limits = {"budget_us": budget_us, "lock_wait_us": lock_wait_us, "max_lag": max_lag, "rate": rate}
        wishes = _wishes(limits | {"policy": policy, "patience_ms": patience_ms}, USUAL)
        moves.check_at_once(at_once)
        with self.session.audited("vshard migrate", resource=table):
            check_targets(self.session, table, targets)
        if dry_run:
            return moves.some_at_once(
                lambda number, stopping: moves.planned(self.session, known, number, targets), list(vshards), 1, watch
            )

        def move(number: int, stopping: Callable[[], bool]) -> Migrated:
            found = situation_of(self.session, table, number)
            part = find_part(self.session, table, targets)
            if found.owner.part == part and found.state in (IDLE, COMPLETED, REVERSED):
                return moves.at_rest(self.session, table, number, found)
            if found.state in (COMPLETED, REVERSED):
                old = "" if found.other is None else f" in {found.other.part}"
                raise moves.refused(table, number, f"still has its old copy{old}", "vshard retire")
            part = part or Parts(self.session).make(table, targets)
            begin = Begin(caller, Place(table, number, clock.random_token("mig")), part, wishes)
            return self._run(caller, number, begin, found, stopping, watch, hold_cutover=hold_cutover)

        return moves.some_at_once(move, list(vshards), at_once, watch)

    def plan(self, table: str, vshards: Sequence[int], *, to: Sequence[str], domain: str) -> Answers:
        """Returns what `migrate` would do, and whether the way back would be open."""
        return self.migrate(table, vshards, to=to, domain=domain, dry_run=True)

    def reverse(
        self,
        table: str,
        vshards: Sequence[int],
        *,
        domain: str,
        at_once: int = AT_ONCE,
        epoch: int | None = None,
        watch: Watch | None = None,
        dry_run: bool = False,
        **limits: Any,
    ) -> Answers:
        """Brings vshards back to where they came from, with all that was written since; no base copy is needed."""
        known, caller = self._admitted(table, vshards, domain, epoch)
        wishes = _wishes(limits, USUAL)

        def move(number: int, stopping: Callable[[], bool]) -> Migrated:
            found = situation_of(self.session, table, number)
            if found.migration is None and found.state == CUTOVER and not dry_run:
                done = self._run(caller, number, None, found, stopping, watch)  # flipped, and its operator died
                if done.state == REVERSED:
                    return done
                found = situation_of(self.session, table, number)
            if found.state == REVERSED:
                return moves.at_rest(self.session, table, number, found, dry_run=dry_run)
            if found.migration is None and found.owner.back is None:
                raise moves.no_way_back(table, number)
            target = (found.migration or found.owner.back or {})["to"]
            with self.session.audited("vshard reverse", resource=table):
                check_targets(self.session, table, domains_of(self.session, target))
            if dry_run:
                return moves.planned(self.session, known, number, domains_of(self.session, target))
            begin = Begin(caller, Place(table, number, clock.random_token("mig")), target, wishes, reverse=True)
            return self._run(caller, number, begin, found, stopping, watch)

        return moves.some_at_once(move, list(vshards), at_once, watch)

    def resume(
        self,
        table: str,
        vshards: Sequence[int] | None = None,
        *,
        domain: str,
        at_once: int = AT_ONCE,
        hold_cutover: bool = False,
        epoch: int | None = None,
        watch: Watch | None = None,
        dry_run: bool = False,
        **limits: Any,
    ) -> Answers:
        """Goes on with migrations that were begun, of these vshards or of all; with other limits if some are given."""
        chosen = moves.under_way(self.session, table) if vshards is None else list(vshards)
        _, caller = self._admitted(table, chosen, domain, epoch)
        wishes = _wishes(limits, {})

        def move(number: int, stopping: Callable[[], bool]) -> Migrated:
            found = situation_of(self.session, table, number)
            if not dry_run:
                found = self._amended(table, number, found, wishes)
            if found.migration is None and found.state != CUTOVER:
                return moves.at_rest(self.session, table, number, found, dry_run=dry_run)
            if dry_run:
                return moves.answer(self.session, table, number, found, changed=True, dry_run=True)
            return self._run(caller, number, None, found, stopping, watch, hold_cutover=hold_cutover)

        return moves.some_at_once(move, chosen, at_once, watch)

    def cutover(self, table: str, vshards: Sequence[int], *, domain: str, **options: Any) -> Answers:
        """Cuts over what `--hold-cutover` held back."""
        self._admitted(table, vshards, domain, options.get("epoch"))
        for number in vshards:
            found = situation_of(self.session, table, number)
            if found.migration is None and found.state not in (CUTOVER, COMPLETED, REVERSED):
                raise moves.refused(
                    table, number, f"is {found.state}, so there is nothing to cut over", "vshard migrate"
                )
        return self.resume(table, vshards, domain=domain, **options)

    def throttle(
        self,
        table: str,
        vshard: int,
        *,
        domain: str,
        rate: int | None = None,
        writes: int | None = None,
        epoch: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Limits what a migration copies (bytes a second) or what writers write (writes a second); 0 ends a limit."""
        self._admitted(table, [vshard], domain, epoch)
        if rate is None and writes is None:
            raise Usage("Nothing to limit.", hint="Give --rate BYTES or --writes N; 0 ends a limit.")
        found = situation_of(self.session, table, vshard)
        if found.migration is None:
            raise moves.refused(table, vshard, "is not being moved", "vshard migrate")
        before = {"rate": found.migration.get("rate"), "writes": (found.owner.row or {}).get("limit")}
        after = {"rate": before["rate"] if rate is None else rate or None}
        after |= {"writes": before["writes"] if writes is None else writes or None}
        if not dry_run and before != after:
            limit = -1 if writes is None else writes
            place = Place(table, vshard, found.migration["id"])
            self.session.resource(found.owner.part).append(Amend(place, {"rate": after["rate"]}, limit))
        return Change(before != after, resource=table, before=before, after=after, dry_run=dry_run or None)

    # --- ending

    def cancel(
        self,
        table: str,
        vshards: Sequence[int],
        *,
        domain: str,
        epoch: int | None = None,
        watch: Watch | None = None,
        dry_run: bool = False,
    ) -> Answers:
        """Undoes migrations that were not flipped: the source takes writes as before, and the copies are removed."""
        self._admitted(table, vshards, domain, epoch)

        def end(number: int, stopping: Callable[[], bool]) -> Migrated:
            found = situation_of(self.session, table, number)
            if found.migration is None:
                was_back = found.state == COMPLETED and (found.owner.back or {}).get("cancelled")
                if found.state in (COMPLETED, CUTOVER, REVERSED) and not was_back:
                    raise moves.refused(table, number, "was flipped, so there is nothing to cancel", "vshard reverse")
                return moves.answer(self.session, table, number, found, changed=False)
            if not dry_run:
                place = Place(table, number, found.migration["id"])
                cancel(self.session, place, found.owner.part, found.migration)
                self.session.note("changed", "vshard cancel", resource=table, vshard=number)
                found = situation_of(self.session, table, number)
            return moves.answer(self.session, table, number, found, changed=True, state="cancelled", dry_run=dry_run)

        return moves.some_at_once(end, list(vshards), 1, watch)

    def retire(
        self,
        table: str,
        vshards: Sequence[int],
        *,
        domain: str,
        epoch: int | None = None,
        watch: Watch | None = None,
        dry_run: bool = False,
    ) -> Answers:
        """Gives up the way back of vshards that were moved, and deletes their old copies."""
        _, caller = self._admitted(table, vshards, domain, epoch)

        def end(number: int, stopping: Callable[[], bool]) -> Migrated:
            found = situation_of(self.session, table, number)
            if found.state == CUTOVER or found.migration is not None:
                raise moves.refused(table, number, "is being moved", "vshard resume")
            kept = moves.kept_copy(self.session, table, number, found)
            changed = found.owner.back is not None or kept is not None
            if changed and not dry_run:
                retire(self.session, Place(table, number, ""), found.owner, kept, caller)
                self.session.note("changed", "vshard retire", resource=table, vshard=number)
                found = situation_of(self.session, table, number)
            return moves.answer(self.session, table, number, found, changed=changed, dry_run=dry_run)

        return moves.some_at_once(end, list(vshards), 1, watch)

    # --- inside

    def _admitted(self, table: str, vshards: Sequence[int], domain: str, epoch: int | None) -> tuple[Table, Caller]:
        """Returns the table and the caller, where the caller may move vshards of it; raises the refusal."""
        known = table_of(self.session, table)
        for number in vshards:
            known.check(number)
        caller = caller_of(self.session, table, domain, epoch)
        with self.session.audited(MIGRATE, resource=table), self.session.state(table) as state:
            caller.pass_gate(MIGRATE, state)
        return known, caller

    def _amended(self, table: str, number: int, found: Situation, wishes: Mapping[str, Any]) -> Situation:
        """Makes the wishes those of the migration; returns how it is then, which another operator may have ended."""
        while found.migration is not None:
            if found.migration["state"] == CANCELLING:
                raise moves.refused(table, number, "is being cancelled", "vshard cancel")
            if not wishes and found.state != FAILED:
                break
            place = Place(table, number, found.migration["id"])
            changes = {**wishes, "state": COPYING}
            with suppress(GenerationConflict):  # it was ended meanwhile, and perhaps another one was begun
                self.session.resource(found.owner.part).append(Amend(place, changes))
                return situation_of(self.session, table, number)
            found = situation_of(self.session, table, number)
        return found

    def _run(
        self,
        caller: Caller,
        number: int,
        begin: Begin | None,
        found: Situation,
        stopping: Callable[[], bool],
        watch: Watch | None,
        *,
        hold_cutover: bool = False,
    ) -> Migrated:
        """Brings the migration of one vshard forward, from wherever it is."""
        table = caller.table
        if found.migration is None and (found.owner.row or {}).get("state") == MOVED:
            moves.finish_flip(self.session, table, number, found)
            found = situation_of(self.session, table, number)
            return moves.answer(self.session, table, number, found, changed=True)
        try:
            return moves.bring_forward(self.session, number, begin, found, stopping, watch, hold_cutover=hold_cutover)
        except GenerationConflict:
            now = situation_of(self.session, table, number)  # somebody else has finished it meanwhile
            if now.migration is None and now.state in (COMPLETED, REVERSED) and now.owner.part != found.owner.part:
                return moves.answer(self.session, table, number, now, changed=False)
            raise


def _wishes(limits: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the limits of a migration, the usual ones where none were given; raises `Usage`."""
    if unknown := limits.keys() - USUAL.keys():
        raise TypeError(f"A migration has no limit {', '.join(unknown)}.")
    found = {**usual, **{name: value for name, value in limits.items() if value is not None}}
    whole = {**USUAL, **found}
    checked_limits(Limits(whole["max_lag"], whole["budget_us"], whole["lock_wait_us"]))
    if whole["policy"] not in POLICIES or whole["patience_ms"] < 0 or (whole["rate"] is not None and whole["rate"] < 1):
        raise Usage(f"--policy is {' or '.join(POLICIES)}; a rate is above 0, and no time below it.")
    return found
