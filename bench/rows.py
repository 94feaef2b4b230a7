"""What a measurement gives: rows of a table, some with a target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

WIDTHS = (58, 10, 7, 9)
HEADER = ("what", "against", "found", "target", "verdict", "how much of it", "printed by")


class Target(NamedTuple):
    """How a value is meant to be."""

    sign: Literal["<=", ">="]
    value: float

    def is_met_by(self, value: float) -> bool:
        return value <= self.value if self.sign == "<=" else value >= self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


class Row(NamedTuple):
    """One measured value; `unit` is `x` for a ratio, and a value of None was not measured."""

    what: str
    value: float | None
    unit: str
    target: Target | None = None
    against: str = ""  # what the ratio or the difference is to
    note: str = ""  # how much of it in this run, or why it was not measured

    def verdict(self) -> str:
        """Returns `met`, `missed`, `unmeasured`, or nothing for a row without a target that was measured."""
        if self.value is None:
            return "unmeasured"
        if self.target is None:
            return ""
        return "met" if self.target.is_met_by(self.value) else "missed"


def unmeasured(row: Row, why: str) -> Row:
    """Returns the row as one that could not be measured here."""
    return row._replace(value=None, note=why)


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Yields the lines of a table: one for each row, and below it what it is against and how much of it."""
    for row in rows:
        aim = str(row.target) if row.target else ""
        number = "-" if row.value is None else _number(row.value)
        cells = (row.what.ljust(WIDTHS[0]), number.rjust(WIDTHS[1]), row.unit.ljust(WIDTHS[2]), aim.ljust(WIDTHS[3]))
        yield " ".join((*cells, row.verdict())).rstrip()
        below = "; ".join(text for text in (row.against and f"against {row.against}", row.note) if text)
        if below:
            yield f"    {below}"


def markdown(found: Iterable[tuple[str, Row]]) -> Iterator[str]:
    """Yields the lines of a Markdown table of the rows with a target, each with the measurement that prints it."""
    yield f"| {' | '.join(HEADER)} |"
    yield "|---|---|--:|--:|---|---|---|"
    for name, row in found:
        if row.target is not None:
            number = "" if row.value is None else f"{_number(row.value)} {row.unit}"
            cells = (row.what, row.against, number, f"{row.target} {row.unit}", row.verdict(), row.note)
            yield f"| {' | '.join(cells)} | `python -m bench {name}` |"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    # Three decimals below one, so that what is just below a target does not look as if it were met.
    return f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
