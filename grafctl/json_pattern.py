"""Patterns of a JSON Schema, tried in bounded time: those that could go on for ages are refused when they are read.

Python's engine backtracks. A pattern's work is at most the number of ways in which its repeats can share out a text:
the product of what its choices and bounded repeats allow, times the length for each repeat without end. Repeats and
choices inside a repeat multiply with each round, so they are refused; what is left is a polynomial whose degree is
known, and a text that would come to more than `WORK_MAX` steps does not match.
"""

from __future__ import annotations

import re
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from grafctl.errors import Usage
from grafctl.names import shown

PATTERN_CHARACTERS_MAX = 1_000
WORK_MAX = 10_000_000
FACTOR_MAX = 10_000
DEGREE_MAX = 4
REPEAT_MAX = 1_000  # of what is repeated so many times at most; the engine writes some of them out

_PLAIN = {codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN, codes.AT, codes.CATEGORY, codes.RANGE}


class Pattern:
    """A pattern, and how long a text may be that it is tried on."""

    __slots__ = ("characters_max", "text", "try_on")

    def __init__(self, text: str) -> None:
        self.text = text
        tree = _parsed(text)
        cost = _Cost(text)
        cost.add(tree)
        first = tree[0] if len(tree) else None
        if first is None or first != (codes.AT, codes.AT_BEGINNING):
            cost.degree += 1  # it is tried from each place on
        if cost.degree > DEGREE_MAX or cost.factor > FACTOR_MAX:
            raise _refused(text, "it has too many repeats and choices")
        left = WORK_MAX // cost.factor
        self.characters_max = left if not cost.degree else int(left ** (1 / cost.degree))
        self.try_on = re.compile(text).search

    def matches(self, value: str) -> bool:
        """Returns whether the pattern is found in a text that is not too long to look."""
        return len(value) <= self.characters_max and self.try_on(value) is not None


def _parsed(text: str) -> Any:
    if len(text) > PATTERN_CHARACTERS_MAX:
        raise _refused(text, f"it has more than {PATTERN_CHARACTERS_MAX:,} characters")
    try:
        tree = parser.parse(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise _refused(text, str(error) or "it cannot be read") from None
    if tree.state.flags & ~re.UNICODE:
        raise _refused(text, "it sets flags")
    return tree


def _refused(text: str, why: str) -> Usage:
    return Usage(f"The pattern {shown(text)} cannot be used: {why}.")


class _Cost:
    """How many ways a text can be shared out: `factor` times its length to the power of `degree`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.factor = 1
        self.degree = 0

    def add(self, tree: Any, *, repeated: bool = False) -> None:
        for code, argument in tree:
            if code in _PLAIN:
                continue
            if code is codes.SUBPATTERN:
                if argument[1] or argument[2]:
                    raise _refused(self._text, "it sets flags")
                self.add(argument[3], repeated=repeated)
            elif code is codes.BRANCH:
                self._branch(argument[1], repeated)
            elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
                self._repeat(argument[0], argument[1], argument[2], repeated)
            else:
                raise _refused(self._text, "it looks around, refers back, or uses what is not known here")

    def _branch(self, branches: Any, repeated: bool) -> None:
        if repeated:
            raise _refused(self._text, "a choice of several texts stands inside a repeat")
        self.factor *= len(branches)
        for branch in branches:
            self.add(branch)

    def _repeat(self, least: int, most: Any, tree: Any, repeated: bool) -> None:
        is_fixed = least == most
        if repeated and not is_fixed:
            raise _refused(self._text, "a repeat stands inside a repeat")
        if least > REPEAT_MAX or (most is not codes.MAXREPEAT and most > REPEAT_MAX):
            raise _refused(self._text, f"it repeats more than {REPEAT_MAX:,} times")
        if most is codes.MAXREPEAT:
            self.degree += 1
        else:
            self.factor *= most - least + 1
        self.add(tree, repeated=repeated or most is codes.MAXREPEAT or most > 1)
