"""What a step says, for `fusing.py`, which makes one function of many steps; a step without a plan is never part of it.

Promises
- A plan holds all that its step does; the paths, casts and expressions in it are those of the step itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from grafctl.expression.language import Expression

Path = Sequence[str]


class Keep(NamedTuple):
    paths: Sequence[Path]


class Drop(NamedTuple):
    paths: Sequence[Path]


class Rename(NamedTuple):
    pairs: Sequence[tuple[Path, Path]]  # old and new


class Set(NamedTuple):
    fields: Sequence[tuple[Path, Expression]]


class Change(NamedTuple):
    """Fields that are there and not null get what a function gives."""

    fields: Sequence[tuple[Path, Callable[[Any], Any]]]


class Lookup(NamedTuple):
    path: Path
    into: Path
    look: Callable[[Any], Any]  # gives `MISSING` where the record is refused


class Filter(NamedTuple):
    when: Expression


Plan = Keep | Drop | Rename | Set | Change | Lookup | Filter
