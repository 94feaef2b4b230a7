"""All next states of a state: each is one durable transaction at one replica, or one read, by one process.

Promises
- `successors` is deterministic: the same state gives the same steps in the same order.
- Identical processes are interchangeable: of two states that differ only in which of them did what, one is kept.

When it fails: a process of an unknown kind raises KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from model import client, elector, learning, others
from model.process import Done, RollBack, Step
from model.setting import Setting
from model.state import State


def _nothing(setting: Setting, state: State, position: int, process: Any) -> Iterator[Step]:
    return iter(())


STEPS: dict[type, Callable[[Setting, State, int, Any], Iterator[Step]]] = {
    client.Client: client.steps,
    elector.Elector: elector.steps,
    learning.Chunker: learning.chunk_steps,
    learning.Learner: learning.learner_steps,
    others.Reader: others.reader_steps,
    others.Observer: others.observer_steps,
    others.Wiper: others.wiper_steps,
    RollBack: others.rollback_steps,
    Done: _nothing,
}


def successors(setting: Setting, state: State) -> Iterator[Step]:
    """Yields (label, next state) for every step that some process may take."""
    if state.alarm:
        return
    for position, process in enumerate(state.processes):
        if process in state.processes[:position] and not process_has_begun(process):
            continue  # the same first steps as those of its twin
        yield from STEPS[type(process)](setting, state, position, process)


def process_has_begun(process: Any) -> bool:
    """Returns whether a client has taken a step: before that, twins are interchangeable."""
    if not isinstance(process, client.Client):
        return True
    return process.source is not None or process.position > 0 or process.passed
