"""Functions of Python one after another as one transform: what `map` and `filter` of a built pipeline are.

A function of `map` is what `call` names in a declared pipeline, with the same rules (`calling.py`). One of `filter`
takes the same and returns True or False.

Promises
- A record that one function refuses is refused, with the name of that function; the ones after it are not asked.
- The fingerprint covers the kind, the name and the place of each function in their order, and the source of its module.
  It does not cover what a function has closed over.

When it fails: as a `call` does.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from grafctl.errors import Usage
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused
from grafctl.pipeline.transforms.calling import OUTPUTS_MAX, Call, check_takes_one, source_of
from grafctl.pipeline.transforms.making import fingerprint_of

MAP, FILTER = "map", "filter"


class Named(NamedTuple):
    """A function that was given to `map` or `filter`, and where it comes from."""

    kind: str
    name: str
    function: Callable[..., Any]
    module: ModuleType
    line: int  # tells two lambdas of one module from each other


def named(kind: str, function: Any) -> Named:
    """Returns a function as a step; raises `Usage` for what cannot be one."""
    if not callable(function) or inspect.isclass(function):
        raise Usage(f"{kind} takes a function, not {shown(repr(function)[:60])}.")
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    if not (inspect.isroutine(inner) or inspect.isfunction(inner)):
        inner = type(inner)  # an object that can be called
    module = sys.modules.get(getattr(inner, "__module__", None) or "")
    name = f"{getattr(inner, '__module__', None)}:{getattr(inner, '__qualname__', '?')}"
    body = function if not inspect.isclass(inner) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
        raise Usage(f"The function {name} is asynchronous; {kind} takes one that returns what it made.")
    if inspect.isgeneratorfunction(body):
        raise Usage(f"The function {name} is a generator; return a list instead.")
    check_takes_one(function, name)
    if module is None:
        raise Usage(f"The function {name} is of no module, so no fingerprint can be taken of it.")
    source_of(module)
    code = getattr(inner, "__code__", None)
    return Named(kind, name, function, module, 0 if code is None else code.co_firstlineno)


class Sieve(Call):
    """A transform that lets a record pass as it is, or not at all."""

    def __call__(self, message: Message) -> Sequence[Output]:
        kept = self.ask(message)
        if type(kept) is not bool:
            raise Refused(f"{self.name}: a filter returns True or False, not a {type(kept).__name__}.")
        return [Output(message.value, None, message.key, None, message.headers)] if kept else []


class Chain:
    """A transform that calls one function after another."""

    def __init__(self, steps: Sequence[Named]) -> None:
        told = [[step.kind, step.name, step.line, hashlib.sha256(source_of(step.module)).hexdigest()] for step in steps]
        self.fingerprint = fingerprint_of(chain=told)
        self._calls = [
            (Sieve if step.kind == FILTER else Call)(step.name, step.function, step.module, self.fingerprint)
            for step in steps
        ]

    def __call__(self, message: Message) -> Sequence[Output]:
        found: Sequence[Output] = [Output(message.value, None, message.key, None, message.headers)]
        for call in self._calls:
            found = [made for output in found for made in _next(call, message, output)]
            if len(found) > OUTPUTS_MAX:
                raise Refused(f"{call.name}: the record becomes more than {OUTPUTS_MAX}.")
        return found

    def close(self) -> None:
        """Nothing is held."""


def _next(call: Call, message: Message, output: Output) -> Sequence[Output]:
    """Returns what a function makes of the output of the one before; who names no id keeps the one that is named."""
    if output.to is not None:
        raise Refused(f"{call.name}: a built pipeline has one way, so no Output says where it goes.")
    made = call(message._replace(value=output.value, key=output.key, headers=output.headers))
    return [item if item.id is not None else item._replace(id=output.id) for item in made]
