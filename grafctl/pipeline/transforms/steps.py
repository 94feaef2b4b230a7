"""The declarative steps of a stage, compiled once to one callable that every record goes through in their order.

Promises
- `compile_step` returns a step or raises `Usage` with a sentence that begins with its `op`; what each does is written
  in `shaping.py`, `converting.py` and `routing.py`, and for users in `docs/pipelines.md`.
- `Steps` gives the same outputs for the same message, leaves the message as it is, and raises `Refused` and nothing
  else; the reason names the step by its number, from 1, and never holds a value.
- The key and the headers of a record go on with it; the id of an output is None unless a step sets it.
- A record becomes at most `OUTPUTS_MAX` outputs.
- Where all steps are of plain fields, a record goes through one function made of them (`fusing.py`). What it does not
  settle, and so all that is refused, goes through the steps one by one: what they say is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from grafctl.errors import Usage
from grafctl.expression.failing import EvaluationError
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused
from grafctl.pipeline.transforms.converting import make_cast, make_hash, make_lookup
from grafctl.pipeline.transforms.drafts import DROP, Draft, Work
from grafctl.pipeline.transforms.fusing import fuse
from grafctl.pipeline.transforms.options import Options
from grafctl.pipeline.transforms.plans import Plan
from grafctl.pipeline.transforms.routing import make_filter, make_route
from grafctl.pipeline.transforms.shaping import make_drop, make_explode, make_keep, make_rename, make_set

_new = tuple.__new__  # of a tuple whose fields are all there: half the time of its class
STEPS_MAX = 200
OUTPUTS_MAX = 10_000

OPERATIONS: dict[str, Callable[[Options], Work]] = {
    "keep": make_keep, "drop": make_drop, "rename": make_rename, "set": make_set, "cast": make_cast,
    "lookup": make_lookup, "explode": make_explode, "hash": make_hash, "route": make_route, "filter": make_filter,
}  # fmt: skip


class Step(NamedTuple):
    """One compiled step; `digests` are those of the files that it reads."""

    op: str
    work: Work
    digests: Mapping[str, str]
    plan: Plan | None = None


def compile_step(step: Mapping[str, Any], outputs: tuple[str, ...], folder: Path) -> Step:
    """Returns the step that a table of the file says; raises `Usage`."""
    op = step.get("op")
    make = OPERATIONS.get(op) if type(op) is str else None
    if make is None:
        if type(op) is not str:
            raise Usage(f"A step has no op, which is one of {', '.join(OPERATIONS)}.")
        close = get_close_matches(op, OPERATIONS, 1)
        guess = f"did you mean {close[0]}?" if close else f"take one of {', '.join(OPERATIONS)}."
        raise Usage(f"There is no step {shown(op)}; {guess}")
    options = Options(step, outputs, folder)
    try:
        work = make(options)
        options.close()
    except Usage as error:
        raise Usage(f"{op}: {error.message}", hint=error.hint) from None
    return Step(str(op), work, options.digests, options.plan)


class Steps:
    """A transform made of steps."""

    def __init__(self, steps: Sequence[Step], fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._works = [step.work for step in steps]
        self._quick = fuse([step.plan for step in steps])
        self._names = [f"Step {number} ({step.op})" for number, step in enumerate(steps, 1)]

    def __call__(self, message: Message) -> Sequence[Output]:
        value = message.value
        if self._quick is not None and type(value) is dict:
            made = self._quick(value)
            if made is not None:
                return () if made is DROP else (_new(Output, (made, None, message.key, None, message.headers)),)
        return self.one_by_one(message)

    def one_by_one(self, message: Message) -> Sequence[Output]:
        """Takes a message through the steps; the quick way gives the same, where there is one."""
        draft, at, after = Draft(message, message.value), 0, None
        try:
            for work in self._works:
                after = work(draft)
                if after is not None:
                    break
                at += 1
        except (Refused, EvaluationError) as error:
            raise self._refused(at, error) from None
        if after is None:
            return (draft.output(),)
        return () if after is DROP else self._each(after, at + 1)

    def _each(self, drafts: list[Draft], at: int) -> Sequence[Output]:
        """Takes several drafts through the other steps, together from step to step."""
        for place in range(at, len(self._works)):
            work, following = self._works[place], list[Draft]()
            for draft in drafts:
                try:
                    after = work(draft)
                except (Refused, EvaluationError) as error:
                    raise self._refused(place, error) from None
                if after is None:
                    following.append(draft)
                elif after is not DROP:
                    following += after
                if len(following) > OUTPUTS_MAX:
                    raise self._refused(place, Refused(f"the record becomes more than {OUTPUTS_MAX}"))
            drafts = following
        return [draft.output() for draft in drafts]

    def _refused(self, at: int, error: Exception) -> Refused:
        return Refused(f"{self._names[at]}: {str(error).rstrip('.')}.")

    def close(self) -> None:
        """Nothing is held."""
