"""What a measurement gives: rows of a table, some with a target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

WIDTHS = (56, 12, 7, 9)


class Target(NamedTuple):
    """How a value is meant to be."""

    sign: Literal["<=", ">="]
    value: float

    def is_met_by(self, value: float) -> bool:
        return value <= self.value if self.sign == "<=" else value >= self.value


class Row(NamedTuple):
    """One measured value; `unit` is `x` for a ratio."""

    what: str
    value: float
    unit: str
    target: Target | None = None


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Yields the lines of a table; a missed target is named in the last column."""
    for what, value, unit, target in rows:
        aim = f"{target.sign} {target.value:g}" if target else ""
        verdict = ("met" if target.is_met_by(value) else "missed") if target else ""
        cells = (what.ljust(WIDTHS[0]), _number(value).rjust(WIDTHS[1]), unit.ljust(WIDTHS[2]), aim.ljust(WIDTHS[3]))
        yield " ".join((*cells, verdict)).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 1 else f"{value:.1f}"
