"""Sentences and lines about vshards on their way; a room of `render.py`.

Promises
- Everything here is pure: what was told goes in, lines come out. A line for a screen is never wider than the screen.
"""

from __future__ import annotations

from grafctl.results import Migrated
from grafctl.typed import Any, Mapping, Sequence

INDENT = "  "
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_FOLDED_MIN = 2


def size_text(count: float) -> str:
    """Returns bytes with a unit of 1024s."""
    unit = 0
    while count >= 1023.95 and unit < len(_SIZES) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_SIZES[unit]}"


def time_text(us: int) -> str:
    """Returns microseconds with the unit that people would take."""
    if us < 1000:
        return f"{us} us"
    return f"{us / 1000:.4g} ms" if us < 1_000_000 else f"{us / 1_000_000:.4g} s"


class Rate:
    """How fast a number grows, since it was seen for the first time."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)

    def take(self, now_s: float, count: int) -> None:
        if self._first is None:
            self._first = (now_s, count)
        self._last = (now_s, count)

    @property
    def per_s(self) -> float | None:
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])


class OnItsWay:
    """What was told last of one vshard."""

    def __init__(self, vshard: int, now_s: float) -> None:
        self.vshard = vshard
        self.state = "begun"
        self._known: dict[str, Any] = {}
        self._copied = Rate()

    def take(self, event: Mapping[str, Any], now_s: float) -> None:
        self.state = event.get("state", self.state)
        if event["event"] == "state":
            self._known.clear()
        self._known |= {"waits_for": None} | dict(event)
        if "bytes" in event:
            self._copied.take(now_s, event["bytes"])

    @property
    def waits_for(self) -> str | None:
        return self._known.get("waits_for")

    def parts(self) -> list[str]:
        """Returns what there is to say of it, each part by itself."""
        known = self._known
        found = []
        if "total" in known:
            found.append(f"{size_text(known['bytes'])} of {size_text(known['total'])}")
            found += [f"{100 * known['bytes'] // known['total']}%"] if known["total"] else []
            rate = self._copied.per_s
            found += [f"{size_text(rate)}/s"] if rate is not None else []
        if "lag" in known:
            found.append(f"lag {known['lag']}")
        if "applied_per_s" in known:
            found.append(f"{known['applied_per_s']:.0f}/s applied, {known.get('written_per_s', 0):.0f}/s written")
        if "estimate_us" in known:
            found.append(f"pause about {time_text(known['estimate_us'])}")
        return found


def plain_lines(table: str, under_way: Mapping[int, OnItsWay], counts: tuple[int, int] | None) -> list[str]:
    """Returns a line for each vshard on its way, for a log."""
    lines = []
    for number in sorted(under_way):
        item = under_way[number]
        end = f"; waits: {item.waits_for}" if item.waits_for else ""
        lines.append(f"vshard {number} of {table}: {item.state} {', '.join(item.parts())}".rstrip() + end)
    return lines + ([_count(*counts)] if counts else [])


def screen_lines(
    under_way: Mapping[int, OnItsWay], counts: tuple[int, int] | None, width: int, height: int
) -> list[str]:
    """Returns a line for each vshard on its way, and what it waits for behind or below it; no more than fit."""
    digits = max(len(str(number)) for number in under_way)
    lines: list[str] = []
    for number in sorted(under_way):
        item = under_way[number]
        line = f"vshard {number:>{digits}}  {item.state:<11}  {'  '.join(item.parts())}".rstrip()
        waits = f"waits: {item.waits_for}" if item.waits_for else ""
        if waits and len(line) + 2 + len(waits) <= width:
            lines.append(f"{line}  {waits}")
        else:
            lines += [line, f"{INDENT}{waits}"] if waits else [line]
    last = [_count(*counts)] if counts else []
    room = max(1, height - len(last))
    if len(lines) > room:
        lines = [*lines[: room - 1], f"and {len(lines) - room + 1} lines more"]
    return [line if len(line) <= width else line[: width - 1] + "…" for line in (*lines, *last)]


def _count(done: int, failed: int) -> str:
    return f"{done} done" + (f", {failed} failed" if failed else "")


# --- answers


def answer_lines(verb: str, answer: Migrated) -> list[str]:
    """Returns what became of one vshard."""
    name, owner = f"vshard {answer.vshard} of {answer.table}", ", ".join(answer.owner)
    if verb in ("cancel", "retire"):
        return [_ended(verb, answer, name, owner)]
    if answer.dry_run:
        return _would(answer, name, owner)
    if not answer.changed:
        what = "is not being moved: it is in" if verb in ("resume", "cutover") else "is already in"
        return [f"{name} {what} {owner} (generation {answer.generation})"]
    if answer.state in ("completed", "reversed"):
        return [f"{name} is in {owner} now (generation {answer.generation}): {_sizes(answer)}{_pause(answer)}"]
    to = ", ".join(answer.to or ())
    estimate = "" if answer.estimate_us is None else f", a pause of about {time_text(answer.estimate_us)}"
    return [
        f"{name} is ready to be cut over to {to}: lag {answer.lag}{estimate}",
        f"{INDENT}grafctl vshard cutover {answer.table} {answer.vshard}",
    ]


def _sizes(answer: Migrated) -> str:
    return f"{answer.records} {'record' if answer.records == 1 else 'records'}, {size_text(answer.bytes)}"


def _pause(answer: Migrated) -> str:
    if answer.pause_us is None:
        return ""
    budget = f" of at most {time_text(answer.budget_us)}" if answer.budget_us is not None else ""
    return f"; writers waited {time_text(answer.pause_us)}{budget}"


def _would(answer: Migrated, name: str, owner: str) -> list[str]:
    if not answer.changed:
        return [f"Nothing would change: {name} is in {owner} (generation {answer.generation})"]
    if answer.actions is None:
        return [f"Would go on with {name} from {answer.state}"]
    steps = [f"{INDENT}{step}. {action}" for step, action in enumerate(answer.actions, 1)]
    to = ", ".join(answer.to or ())
    return [f"Would move {name} from {owner} to {to}", *steps, f"{INDENT}way back: {answer.way_back}"]


def _ended(verb: str, answer: Migrated, name: str, owner: str) -> str:
    if not answer.changed:
        nothing = "is not being moved" if verb == "cancel" else "has no old copy"
        return f"{name} {nothing}; it is in {owner} (generation {answer.generation})"
    if verb == "cancel":
        begin = f"Would cancel the migration of {name}" if answer.dry_run else f"{name}: its migration is cancelled"
        return f"{begin}; it stays in {owner}"
    begin = f"Would delete the old copy of {name}" if answer.dry_run else f"{name}: its old copy is deleted"
    return f"{begin}; it stays in {owner}"


def end_lines(table: str, done: Sequence[Migrated], failed: Sequence[Mapping[str, Any]], *, is_many: bool) -> list[str]:
    """Returns the sum of many, and what may follow on a move."""
    lines = [_sum(table, done, failed)] if is_many else []
    if any(answer.changed and answer.pause_us is not None and answer.state == "completed" for answer in done):
        lines.append("The old copy is kept: vshard reverse brings back what was moved, vshard retire deletes the copy.")
    return lines


def _sum(table: str, done: Sequence[Migrated], failed: Sequence[Mapping[str, Any]]) -> str:
    if not done and not failed:
        return f"No vshard of {table} is being moved."
    changed = sum(answer.changed for answer in done)
    pauses = [answer.pause_us for answer in done if answer.pause_us is not None]
    longest = f"; the longest pause took {time_text(max(pauses))}" if pauses else ""
    word = "would change" if any(answer.dry_run for answer in done) else "changed"
    ended = f", {len(failed)} failed" if failed else ""
    return f"{changed} of {len(done) + len(failed)} vshards {word}{ended}{longest}"


# --- looking


def list_blocks(items: Sequence[Mapping[str, Any]], *, is_chosen: bool) -> list[Any]:
    """Returns a table of vshards, and a line for those that hold nothing and never moved, unless they were named."""
    from grafctl.render_text import table_of

    unused = [item for item in items if item.get("generation") == 1 and not (item["records"] or item["writes_per_s"])]
    folded = [] if is_chosen or len(unused) < _FOLDED_MIN else unused
    skipped = {item["vshard"] for item in folded}
    rows = [dict(item) for item in items if item["vshard"] not in skipped]
    blocks: list[Any] = [table_of(rows)] if rows else []
    if folded:
        more = " more" if rows else ""
        blocks.append(f"{len(folded)}{more} vshards hold nothing, and are in {', '.join(folded[0]['owner'])}.")
    return blocks


def status_blocks(table: str, items: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Returns a table of how far vshards are."""
    from grafctl.render_text import table_of

    if not items:
        return [f"No vshard of {table} is being moved, and none has an old copy."]
    rows = []
    for item in items:
        going = item.get("migration") or {}
        row = {"vshard": item["vshard"], "state": item["state"], "owner": item["owner"], "to": going.get("to")}
        row["copied"] = f"{size_text(going['bytes'])} of {size_text(going['total'])}" if going else None
        row |= {"records": item["records"], "writes_per_s": item["writes_per_s"], "old copy": item.get("kept_copy")}
        rows.append(row | {"why": going["reason"]} if "reason" in going else row)
    return [table_of(rows)]


def show_blocks(body: Mapping[str, Any]) -> list[Any]:
    """Returns a vshard as lines, with its migration below it."""
    from grafctl.render_text import pairs

    going = body.get("migration")
    blocks = pairs({name: value for name, value in body.items() if name != "migration"}, "")
    return blocks + (["migration:", *pairs(going, INDENT)] if going else [])
