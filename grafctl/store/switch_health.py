"""The health of a consumer that was switched: rules with a limit each, judged by numbers, each told in a sentence.

What is counted is counted from the flip on. A rule without a limit is not judged, but for mismatches
of the two outputs: none is allowed unless `max_mismatches` says how many.

| rule               | number                                                                           |
|--------------------|----------------------------------------------------------------------------------|
| `max_lag`          | records that are published and not finished, without dead letters                |
| `max_redeliveries` | deliveries after the first of a record                                           |
| `max_dead_letters` | dead letters, less those there were                                              |
| `max_error_rate`   | redeliveries and dead letters, as a part of these and of what was finished       |
| `max_idle_ms`      | how long nothing was finished although a record was waiting all the time         |
| `max_mismatches`   | mismatches of the two outputs                                                    |
| `health_command`   | its exit code: 0 is healthy                                                      |

Promises
- The same numbers give the same verdict; a limit that is reached is kept, and one that is passed is broken.
- How long nothing was finished does not depend on when it is judged: an ack notes its time in its entry.
- An error rate is judged from `ATTEMPTS_MIN` attempts on: the first failure alone is no rate.

When it fails: nothing here can; there is no I/O, no clock and no randomness.
"""

from __future__ import annotations

from grafctl.typed import Any, Mapping, NamedTuple

MAX_LAG, MAX_REDELIVERIES, MAX_DEAD_LETTERS = "max_lag", "max_redeliveries", "max_dead_letters"
MAX_ERROR_RATE, MAX_IDLE, MAX_MISMATCHES = "max_error_rate", "max_idle_ms", "max_mismatches"
HEALTH_COMMAND = "health_command"
ATTEMPTS_MIN = 10


class Numbers(NamedTuple):
    """What the store says of the group at the target, at a time; what is `COUNTED` only grows, except by a redrive."""

    lag: int
    finished: int
    redelivered: int
    dead: int
    mismatches: int
    finished_ms: int = 0  # when it finished something last
    waiting_ms: int = 0  # when the first record was published that is not finished


COUNTED = ("finished", "redelivered", "dead", "mismatches")  # from the flip on


class Verdict(NamedTuple):
    """What an external command said."""

    exit: int | None  # None: it did not end in time
    line: str  # its last line


class Check(NamedTuple):
    """One rule, judged."""

    rule: str
    limit: Any
    number: Any
    ok: bool
    sentence: str


def begun(numbers: Numbers, now_ms: int) -> dict[str, Any]:
    """Returns what is kept when a soak begins.

    Mismatches count from none on: with any a switch does not flip, and what came since the flip is what is looked for.
    """
    base = {field: getattr(numbers, field) for field in COUNTED} | {"mismatches": 0}
    return {"base": base, "progress_ms": now_ms}


def judged(
    rules: Mapping[str, Any], soak: Mapping[str, Any], numbers: Numbers, now_ms: int, verdict: Verdict | None = None
) -> tuple[dict[str, Any], list[Check]]:
    """Returns what is kept of a soak, and each rule that has a limit."""
    last_ms = max(soak["progress_ms"], numbers.finished_ms, numbers.waiting_ms)
    progress_ms = now_ms if numbers.lag == 0 else min(last_ms, now_ms)
    base = soak["base"]
    since = {field: max(0, getattr(numbers, field) - base[field]) for field in COUNTED}
    failed = since["redelivered"] + since["dead"]
    attempts = failed + since["finished"]
    seen: dict[str, Any] = {
        MAX_LAG: numbers.lag,
        MAX_REDELIVERIES: since["redelivered"],
        MAX_DEAD_LETTERS: since["dead"],
        MAX_ERROR_RATE: failed / attempts if attempts >= ATTEMPTS_MIN else None,
        MAX_IDLE: now_ms - progress_ms,
        MAX_MISMATCHES: since["mismatches"],
    }
    limits = {MAX_MISMATCHES: 0, **rules}
    words = {"failed": failed, "attempts": attempts, "lag": numbers.lag}
    checks = [_check(rule, limits[rule], number, words) for rule, number in seen.items() if rule in limits]
    if verdict is not None:
        checks.append(_command(rules[HEALTH_COMMAND], verdict))
    now = {"lag": numbers.lag, **since, "idle_ms": seen[MAX_IDLE]}
    kept = {"base": base, "progress_ms": progress_ms, "judged_ms": now_ms}
    return kept | {"numbers": now, "checks": [dict(zip(Check._fields, check, strict=True)) for check in checks]}, checks


def _check(rule: str, limit: Any, number: Any, words: Mapping[str, int]) -> Check:
    shown = number
    if rule == MAX_LAG:
        what = f"{number:,} {_records(number)} not finished yet"
        most = f"{limit:,}"
    elif rule == MAX_REDELIVERIES:
        what, most = f"{number:,} {'delivery was' if number == 1 else 'deliveries were'} not the first", f"{limit:,}"
    elif rule == MAX_DEAD_LETTERS:
        what, most = f"{number:,} {_records(number)} a dead letter now", f"{limit:,}"
    elif rule == MAX_IDLE:
        behind = f"while {words['lag']:,} {_records(words['lag'])} waiting" if words["lag"] else "and none is waiting"
        what, most = f"nothing was finished for {number:,} ms {behind}", f"{limit:,} ms"
    elif rule == MAX_MISMATCHES:
        what = f"{number:,} {'mismatch' if number == 1 else 'mismatches'} of the two outputs since it was switched"
        most = f"{limit:,}"
    else:
        shown = None if number is None else round(number, 6)
        tried = f"{words['failed']:,} of {words['attempts']:,} attempts failed"
        what = f"{tried}, too few to judge" if number is None else f"{tried}, {_percent(number)}"
        most = _percent(limit)
    ok = number is None or number <= limit
    sentence = f"{_capital(what)}; {'at most' if ok else 'more than'} {most} {'may be' if ok else 'is a regression'}."
    return Check(rule, limit, shown, ok, sentence)


def _command(command: str, verdict: Verdict) -> Check:
    quoted = f": {verdict.line}" if verdict.line else ""
    if verdict.exit is None:
        return Check(HEALTH_COMMAND, 0, None, False, f"The health command did not end in time{quoted or '.'}")
    how = "says that all is well" if verdict.exit == 0 else f"ended with {verdict.exit}"
    return Check(HEALTH_COMMAND, 0, verdict.exit, verdict.exit == 0, f"The health command {how}{quoted or '.'}")


def broken(checks: list[Check]) -> list[Check]:
    """Returns the rules that are broken."""
    return [check for check in checks if not check.ok]


def _records(count: int) -> str:
    return "record is" if count == 1 else "records are"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
