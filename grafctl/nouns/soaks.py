"""What is found out about a switched consumer: the comparison of both outputs, the soak, and the report of both.

Promises
- A comparison and a judgement pass the gate of both groups from the caller's domain; a report needs none.
- What is reported is what was kept last, with its time; reporting changes nothing and reads no output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from grafctl import clock
from grafctl.errors import GenerationConflict, Usage
from grafctl.names import check_domain, check_name
from grafctl.results import Shown
from grafctl.store.operations.switching.compared import check_from
from grafctl.store.operations.switching.comparing import compare
from grafctl.store.operations.switching.soaking import Judge, soaking_row, take_back
from grafctl.store.operations.switching.work import row_of
from grafctl.store.session import Session
from grafctl.store.switch_rules import LOCKED, SIDES, SOAKING, check_drain, left_ms, moved_on, phase_of

GRACE_MS_MAX = 7 * 86_400_000
DRAIN_MS = 30_000
LOOK_MS = 2_000  # between two judgements of a soak that is followed
Watch = Callable[[dict[str, Any]], None]
Progress = Callable[[str, int, int], None]


def check_grace(grace_ms: int | None) -> int | None:
    """Returns how young a record may be that has no counterpart yet; raises `Usage`."""
    if grace_ms is not None and (type(grace_ms) is not int or not 0 <= grace_ms <= GRACE_MS_MAX):
        raise Usage(f"The grace of a comparison is 0 to 7d, not {grace_ms:,} ms.")
    return grace_ms


class Soaks:
    """What is found out about the switches of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def compare(
        self,
        name: str,
        *,
        domain: str,
        compare_from: str | None = None,
        grace_ms: int | None = None,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> Shown:
        """Compares what is new in both outputs, and returns the report; a switch that was rolled back is in its shadow
        again. With `compare_from` what was found so far is forgiven (`now`), or all is compared again (`start`)."""
        check_name("switch", name)
        check_domain(domain)
        how: dict[str, Any] = {"compare_from": check_from(compare_from), "grace_ms": check_grace(grace_ms)}
        op = "consumer compare"
        with self.session.audited(op, switch=name, domain=domain):
            row = row_of(self.session, name)
            if row["state"] == LOCKED:
                raise GenerationConflict(
                    f"Switch {name} is locked, so nothing depends on a comparison any more.",
                    hint=f"Run `grafctl consumer report {name}`.",
                    switch=name,
                    state=LOCKED,
                )
            found = compare(self.session, name, row, domain, begins=True, tell=progress, dry_run=dry_run, **how)
        if compare_from is not None and not dry_run:
            self.session.note("changed", op, switch=name, domain=domain, compare_from=compare_from)
        if not dry_run:
            return self.report(name)
        return Shown({**report_of(name, row | {"shadow": found.shadow}), "dry_run": True})

    def soak(
        self,
        name: str,
        *,
        domain: str,
        follow: bool = False,
        drain_ms: int = DRAIN_MS,
        watch: Watch | None = None,
        dry_run: bool = False,
    ) -> Shown:
        """Judges a consumer that was switched, and returns the report; with `follow` again and again until its window
        is over. Where a rule is broken it takes the consumer back to the source and raises `ProofRequired` (19).

        With `dry_run` it judges once, keeps nothing and takes nobody back.
        """
        check_name("switch", name)
        check_domain(domain)
        check_drain(drain_ms)
        with self.session.audited("consumer soak", switch=name, domain=domain):
            row = soaking_row(self.session, name, domain)
            judge = Judge(self.session, name, row, domain, dry_run=dry_run)
            while True:
                found = judge.judge()
                if dry_run:
                    return Shown(
                        {**report_of(name, row | {"shadow": found.shadow, "soak": found.soak}), "dry_run": True}
                    )
                if found.sentences:
                    raise take_back(self.session, name, row, found, domain, drain_ms=drain_ms)
                body = report_of(name, row_of(self.session, name))
                if watch is not None:
                    watch(body)
                if body["generation"] != row["generation"] or body["state"] != SOAKING:
                    raise moved_on(name, body, row["generation"])
                if not follow or body["window_left_ms"] == 0:
                    return Shown(body)
                clock.sleep(min(LOOK_MS, body["window_left_ms"]) / 1000)

    def report(self, name: str) -> Shown:
        """Returns what was found out about a switch: counts, the records that were named, flips and the soak."""
        return Shown(report_of(name, row_of(self.session, check_name("switch", name))))


def report_of(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the report of a switch, of what its row keeps."""
    body = {"switch": name, **{field: row[field] for field in ("state", "side", "generation", *SIDES, "match")}}
    body |= {"phase": phase_of(row), "fields": row["compare"]["fields"], "compared": compared_of(row["shadow"])}
    body |= {"samples": row["shadow"].get("samples", []), "rules": row["rules"], "window_ms": row["window_ms"]}
    body |= {"window_left_ms": left_ms(row, clock.now_ms()), "soak": soak_of(row)}
    return body | {"flips": row["flips"]}


def compared_of(shadow: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what a comparison came to, or None where there was none."""
    if "counts" not in shadow:
        return None
    body: dict[str, Any] = {**shadow["counts"], "mismatches": shadow["mismatches"]}
    body |= {"not_compared": shadow["without"], "left_out": shadow.get("left_out", 0), "ahead": shadow.get("full")}
    body |= {"undated": shadow.get("undated")}
    body |= {"grace_ms": shadow["grace_ms"], "forgiven_ms": shadow.get("forgiven_ms")}
    body |= {"judged_ms": shadow["judged_ms"], "generation": shadow["generation"]}
    return {field: value for field, value in body.items() if value is not None or field == "mismatches"}


def soak_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns how the soak of a switch goes, or None where it was not judged."""
    soak = row["soak"]
    if "checks" not in soak:
        return None
    healthy = all(check["ok"] for check in soak["checks"])
    body = {"healthy": healthy, "since_ms": row["soak_since_ms"], "judged_ms": soak["judged_ms"]}
    return body | {"numbers": soak["numbers"], "checks": soak["checks"]}
