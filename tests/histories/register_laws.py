"""What holds for the calls on a vshard and on a key of it, one law at a time, each with a sentence for who breaks it.

A law looks at what was answered and at when calls began and ended. Together they do not say that an order of all calls
exists (`registers.py` looks for one); each says in plain words what a reader of a long history would not see.

Promises
- A law finds nothing in a history that an order explains in which writes come in the order of their versions.
- A call that began after another had ended is after it; of two that ran at the same time no law says which was first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from histories.recorder import Operation


class Finding(NamedTuple):
    """What is wrong with a key, and the calls that show it."""

    law: str
    key: str
    text: str
    operations: Sequence[Operation]

    def __str__(self) -> str:
        lines = [f"{self.law}: {self.key}: {self.text}"]
        for item in self.operations:
            end = "           …" if item.is_pending else f"{item.end:>12.6f}"
            answer = "no answer" if item.is_pending else repr(item.result)
            lines.append(f"  {item.start:>12.6f} to {end}  {item.process:<10} {item.name} {item.args} -> {answer}")
        return "\n".join(lines)


Broken = tuple[str, list[Operation]]
Law = Callable[[Sequence[Operation]], Iterator[Broken]]


def version_of(item: Operation) -> int | None:
    """Returns the version that an answer tells: what was written, or what was found; None without an answer."""
    if item.is_pending:
        return None
    known: int | None = item.result.get("version", item.result.get("found"))
    return known


def is_write(item: Operation) -> bool:
    """Returns whether it was acknowledged as a write."""
    return item.name != "get" and not item.is_pending and "found" not in item.result


def has_reason(item: Operation) -> bool:
    """Returns whether what a refused write found is another version than it expected, or nothing to delete."""
    found, expect = item.result["found"], item.args.get("expect")
    return (expect is not None and found != expect) or (item.name == "delete" and not found)


def after_others(items: Iterable[Operation], measure: Callable[[Operation], Any]) -> Iterator[Broken]:
    """Yields calls whose measure is less than that of a call that ended before they began."""
    measured = [(item, value) for item in items if (value := measure(item)) is not None]
    ended = sorted(measured, key=lambda pair: pair[0].end)
    place, highest = 0, None
    for item, value in sorted(measured, key=lambda pair: pair[0].start):
        while place < len(ended) and ended[place][0].end < item.start:
            if highest is None or ended[place][1] > highest[1]:
                highest = ended[place]
            place += 1
        if highest is not None and value < highest[1]:
            yield f"{value} after {highest[1]}", [highest[0], item]


# --- of a vshard


def one_write_a_version(items: Sequence[Operation]) -> Iterator[Broken]:
    by_version: dict[int, Operation] = {}
    for item in items:
        version = version_of(item) if is_write(item) else None
        if version is not None and by_version.setdefault(version, item) is not item:
            yield f"version {version} was given to two writes", [by_version[version], item]


def versions_grow_with_each_write(items: Sequence[Operation]) -> Iterator[Broken]:
    """Of the whole vshard, so that a vshard that begins to count anew somewhere else is found with any two keys."""
    yield from after_others(items, lambda item: version_of(item) if is_write(item) else None)


def generations_never_go_back(items: Sequence[Operation]) -> Iterator[Broken]:
    """Who answered for a later owner has ended all answers of the one before."""
    yield from after_others(items, lambda item: None if item.is_pending else item.result.get("generation"))


# --- of a key


def what_is_read_was_written(items: Sequence[Operation]) -> Iterator[Broken]:
    puts = {item.args["value"]: item for item in items if item.name == "put"}
    for item in items:
        if item.name == "get" and version_of(item):
            put = puts.get(item.result["value"])
            if put is None:
                yield f"{item.result['value']!r} was written by nobody", [item]
            elif "found" in (put.result or {}):
                yield f"{item.result['value']!r} was written by a put that was refused", [put, item]
            elif item.end < put.start:
                yield f"{item.result['value']!r} was read before it was written", [item, put]


def a_value_has_one_version(items: Sequence[Operation]) -> Iterator[Broken]:
    first: dict[str, Operation] = {}
    by_version: dict[int, tuple[str, Operation]] = {}
    for item in items:
        version = version_of(item)
        value = item.result.get("value", item.args.get("value")) if version and "found" not in item.result else None
        if version and value is not None:
            before = first.setdefault(value, item)
            if version_of(before) != version:
                yield f"{value!r} is said to have two versions", [before, item]
            holder = by_version.setdefault(version, (value, item))
            if holder[0] != value:
                yield f"version {version} was seen with two values", [holder[1], item]


def a_process_never_goes_back(items: Sequence[Operation]) -> Iterator[Broken]:
    """Not even to what ran at the same time as what others saw: a process makes one call after the other."""
    highest: dict[str, Operation] = {}
    for item in items:
        version = version_of(item)
        if not version:
            continue
        before = highest.setdefault(item.process, item)
        if version < (version_of(before) or 0):
            yield f"{item.process} saw {version} after {version_of(before)}", [before, item]
        elif version > (version_of(before) or 0):
            highest[item.process] = item


def a_delete_lasts(items: Sequence[Operation]) -> Iterator[Broken]:
    puts = {item.args["value"]: item for item in items if item.name == "put" and not item.is_pending}
    deletes = [item for item in items if item.name == "delete" and is_write(item)]
    for item in items:
        put = puts.get(item.result.get("value")) if item.name == "get" and version_of(item) else None
        if put is None:
            continue
        for delete in deletes:
            if put.end < delete.start and delete.end < item.start:
                yield "what was deleted is there again", [put, delete, item]


def nothing_older_is_seen(items: Sequence[Operation]) -> Iterator[Broken]:
    yield from after_others(items, lambda item: version_of(item) or None)


def nothing_vanishes(items: Sequence[Operation]) -> Iterator[Broken]:
    """What was there is gone only by a delete, answered or not, that can have come in between."""
    there = sorted((item for item in items if version_of(item) and _is_there(item)), key=lambda item: item.end)
    deletes = [item for item in items if item.name == "delete" and (item.is_pending or is_write(item))]
    for item in items:
        if version_of(item) == 0:
            before = next((other for other in reversed(there) if other.end < item.start), None)
            if before is not None and not any(d.end >= before.start and d.start <= item.end for d in deletes):
                yield "what was there is gone, and nobody deleted it", [before, item]


def _is_there(item: Operation) -> bool:
    return item.name != "delete" or "found" in item.result


def a_version_is_won_once(items: Sequence[Operation]) -> Iterator[Broken]:
    """A compare-and-set comes right after the version that it expected: no other has it, and none is in between."""
    winners: dict[int, Operation] = {}
    for item in items:
        expect = item.args.get("expect")
        if not expect or not is_write(item):
            continue
        if winners.setdefault(expect, item) is not item:
            yield f"two compare-and-sets won over version {expect}", [winners[expect], item]
        for other in items:
            between = version_of(other) if is_write(other) else None
            if between is not None and expect < between < (version_of(item) or 0):
                yield f"version {between} is between {expect} and who won over it", [other, item]


def a_refusal_has_a_reason(items: Sequence[Operation]) -> Iterator[Broken]:
    for item in items:
        if not item.is_pending and "found" in item.result and not has_reason(item):
            yield "it was refused where what it asked for was there", [item]


def what_was_acknowledged_was_seen(items: Sequence[Operation]) -> Iterator[Broken]:
    """The last acknowledged write of a key was read, or something may have come after it.

    A history in which nobody looks in the end proves little; so it is a finding, not a pass.
    """
    writes = [item for item in items if is_write(item)]
    if not writes:
        return
    last = max(writes, key=lambda item: (version_of(item) or 0, item.end))
    for item in items:
        if item is not last and item.end >= last.start:
            if item.name != "get" and item.is_pending:
                return  # it may have come after
            if not item.is_pending and (item.name == "get" or "found" in item.result):
                seen = version_of(item) or 0
                if seen >= (version_of(last) or 0) or (last.name == "delete" and not seen):
                    return
    yield "the last acknowledged write was never seen", [last]


LAWS_OF_VSHARD: dict[str, Law] = {
    "duplicate version": one_write_a_version,
    "version goes back": versions_grow_with_each_write,
    "generation goes back": generations_never_go_back,
}
LAWS_OF_KEY: dict[str, Law] = {
    "never written": what_is_read_was_written,
    "two versions": a_value_has_one_version,
    "won twice": a_version_is_won_once,
    "refused without reason": a_refusal_has_a_reason,
    "process goes back": a_process_never_goes_back,
    "resurrected": a_delete_lasts,
    "stale": nothing_older_is_seen,
    "vanished": nothing_vanishes,
    "never seen": what_was_acknowledged_was_seen,
}


def finding_of_vshard(vshard: int, items: Sequence[Operation]) -> Finding | None:
    """Returns what breaks a law that all keys of a vshard keep together."""
    return _first(f"vshard {vshard}", items, LAWS_OF_VSHARD)


def finding_of_key(key: str, items: Sequence[Operation]) -> Finding | None:
    """Returns what breaks a law of one key; `items` are sorted by start."""
    writers: dict[str, list[Operation]] = defaultdict(list)
    for item in items:
        if item.name == "put":
            writers[item.args["value"]].append(item)
    twice = [value for value, same in writers.items() if len(same) > 1]
    if twice:
        raise ValueError(f"{key}: values that were put twice tell nothing: {twice[:3]}")
    return _first(key, items, LAWS_OF_KEY)


def _first(name: str, items: Sequence[Operation], laws: dict[str, Law]) -> Finding | None:
    for law, broken in laws.items():
        for text, shown in broken(items):
            return Finding(law, name, text, shown)
    return None
