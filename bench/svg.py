"""A small writer of line charts as SVG: two logarithmic axes, ticks, a legend; on white, so any page may hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 84, 48, 84, 62  # margins
# Told apart by colour, also by those who see fewer, and by the shape of their points.
COLOURS = ("#0060b0", "#c04a00", "#5b5b5b", "#7a2a8f")
FONT = "font-family='system-ui, sans-serif'"


class Series(NamedTuple):
    """One line of the chart."""

    name: str
    points: Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """One direction: from the data's value to a place on the paper."""

    low: float
    high: float
    start: float
    stop: float

    def place(self, value: float) -> float:
        """Returns where a value is."""
        part = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return self.start + part * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Returns the values that have a line: powers of ten, or 1, 2 and 5 of each where there are few of them."""
        powers = range(floor(log10(self.low) + 1e-9), ceil(log10(self.high) - 1e-9) + 1)
        steps = (1,) if len(powers) > 4 else (1, 2, 5)
        values = [step * 10.0**power for power in powers for step in steps]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def chart(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """Returns the text of an SVG file."""
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    across = Axis(*_round(xs), LEFT, WIDTH - RIGHT)
    up = Axis(*_round(ys), HEIGHT - BOTTOM, TOP)
    said = "; ".join(
        f"{line.name}: " + ", ".join(f"{_number(y)} at {_number(x)}" for x, y in line.points) for line in series
    )
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'"
        f" role='img' aria-labelledby='title desc' {FONT} font-size='13' fill='#222'>",
        f"<title id='title'>{escape(title)}</title>",
        f"<desc id='desc'>{escape(f'{y_label} by {x_label}. {said}')}</desc>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' rx='8' fill='#ffffff' stroke='#cccccc'/>",
        _text(LEFT, 28, title, "start", " font-size='16' font-weight='600'"),
        *_grid(across, up),
        _text((across.start + across.stop) / 2, HEIGHT - 16, x_label, "middle"),
        _text(-(up.start + up.stop) / 2, 22, y_label, "middle", " transform='rotate(-90)'"),
        *(part for number, line in enumerate(series) for part in _line(number, line, across, up)),
        *_legend(series),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _round(values: Sequence[float]) -> tuple[float, float]:
    """Returns 1, 2 or 5 of a power of ten below and above everything."""
    lower = [step * 10.0**power for power in range(-9, 16) for step in (1, 2, 5)]
    low = max(value for value in lower if value <= min(values) * 1.0001)
    high = min(value for value in lower if value >= max(values) * 0.9999)
    return low, high if high > low else low * 10


def _grid(across: Axis, up: Axis) -> Iterator[str]:
    for value in up.ticks():
        y = up.place(value)
        yield f"<path d='M{across.start:.1f} {y:.1f}H{across.stop:.1f}' stroke='#dddddd'/>"
        yield _text(across.start - 8, y + 4.5, _number(value), "end")
    for value in across.ticks():
        x = across.place(value)
        yield f"<path d='M{x:.1f} {up.start:.1f}V{up.stop:.1f}' stroke='#eeeeee'/>"
        yield _text(x, up.start + 20, _number(value), "middle")
    yield f"<path d='M{across.start} {up.stop}V{up.start}H{across.stop}' stroke='#222' fill='none'/>"


def _line(number: int, line: Series, across: Axis, up: Axis) -> Iterator[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = [(across.place(x), up.place(y)) for x, y in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f"<path d='M{path}' stroke='{colour}' stroke-width='2' fill='none'/>"
    for x, y in places:
        yield _point(number, x, y)


def _point(number: int, x: float, y: float) -> str:
    colour = COLOURS[number % len(COLOURS)]
    shapes = (
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4.5'",
        f"<rect x='{x - 4:.1f}' y='{y - 4:.1f}' width='8' height='8'",
        f"<path d='M{x:.1f} {y - 5:.1f}l5 9h-10z'",
        f"<path d='M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z'",
    )
    return f"{shapes[number % len(shapes)]} fill='{colour}'/>"


def _legend(series: Sequence[Series]) -> Iterator[str]:
    x = float(LEFT)
    for number, line in enumerate(series):
        yield f"<path d='M{x:.1f} 54h26' stroke='{COLOURS[number % len(COLOURS)]}' stroke-width='2'/>"
        yield _point(number, x + 13, 54)
        yield _text(x + 32, 58.5, line.name, "start")
        x += 32 + 7.2 * len(line.name) + 22


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'{more}>{escape(text)}</text>"


def _number(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
