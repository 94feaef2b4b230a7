"""The rejected design, as a specification of its own: lock a majority, write a higher epoch with the record.

A writer locks a majority or more, takes the best log among them, and writes it with its record in a newer epoch to
one domain after the other, one commit each. It may die between two commits; its locks fall with it. It looks safe
because two majorities always share a domain; `docs/protocol.md` tells why it is not, and this finds the trace.

Promises
- Deterministic, and complete for two writers on three domains.

When it fails: `violation` returns None, and the reason for rejecting the design is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

Epoch = tuple[int, int]  # (number, writer)
Written = tuple[tuple[Epoch, str], ...]  # the log of one domain
DOMAINS = ("A", "B", "C")
MAJORITY = 2


class Writer(NamedTuple):
    """One process that writes one record."""

    key: str
    locked: tuple[int, ...] = ()  # places of the domains it holds
    plan: Written = ()
    written: tuple[int, ...] = ()
    ended: bool = False


class State(NamedTuple):
    """One state: what is durable, what runs, what was acknowledged."""

    logs: tuple[Written, ...]
    writers: tuple[Writer, ...]
    acknowledged: tuple[Written, ...] = ()


def rank(log: Written) -> tuple[Epoch, int]:
    """Orders logs by (last epoch, length)."""
    return (log[-1][0] if log else (0, 0), len(log))


def successors(state: State) -> Iterator[tuple[str, State]]:
    """Yields every next step of every writer."""
    for place, writer in enumerate(state.writers):
        if writer.ended:
            continue
        if not writer.locked:
            yield from _lock_steps(state, place, writer)
            continue
        for target in writer.locked:
            if target in writer.written:
                continue
            moved = writer._replace(written=(*writer.written, target))
            logs = tuple(writer.plan if at == target else log for at, log in enumerate(state.logs))
            acknowledged = state.acknowledged
            if len(moved.written) == MAJORITY:
                acknowledged = (*acknowledged, writer.plan)
            yield f"{writer.key} commits at {DOMAINS[target]}", State(logs, _put(state, place, moved), acknowledged)
        ended = writer._replace(locked=(), ended=True)
        yield f"{writer.key} ends or dies", state._replace(writers=_put(state, place, ended))


def _lock_steps(state: State, place: int, writer: Writer) -> Iterator[tuple[str, State]]:
    held = {domain for other in state.writers for domain in other.locked}
    for size in (MAJORITY, len(DOMAINS)):
        for chosen in combinations(range(len(DOMAINS)), size):
            if held & set(chosen):
                continue
            best = max((state.logs[at] for at in chosen), key=rank)
            epoch = (1 + max(rank(state.logs[at])[0][0] for at in chosen), place)
            moved = writer._replace(locked=chosen, plan=(*best, (epoch, writer.key)))
            names = "".join(DOMAINS[at] for at in chosen)
            yield f"{writer.key} locks {names}", state._replace(writers=_put(state, place, moved))


def _put(state: State, place: int, writer: Writer) -> tuple[Writer, ...]:
    return (*state.writers[:place], writer, *state.writers[place + 1 :])


def _lost(state: State) -> str | None:
    for majority in combinations(state.logs, MAJORITY):
        best = max(majority, key=rank)
        for log in state.acknowledged:
            if best[: len(log)] != log:
                return f"I1 {log[-1][1]} was acknowledged, and a log without it may be taken for the best"
    return None


def violation() -> tuple[str, tuple[str, ...]] | None:
    """Returns the acknowledged record that is lost, with the shortest trace to it, or None."""
    first = State(((),) * len(DOMAINS), (Writer("x"), Writer("y")))
    traces: dict[State, tuple[str, ...]] = {first: ()}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        wrong = _lost(state)
        if wrong:
            return wrong, traces[state]
        for label, following in successors(state):
            if following not in traces:
                traces[following] = (*traces[state], label)
                queue.append(following)
    return None
