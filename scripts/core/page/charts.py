"""Charts as SVG in a page: they follow light and dark, every point says what it is, and nothing draws them but the browser.

A chart is made of values; `charts.html` draws it. Positions are in pixels of a picture `WIDTH` wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 42
ROW = 26


@dataclass(frozen=True)
class Axis:
    """Values along one side.

    Args:
        label: what they are, with the unit.
        low: the least value shown.
        high: the largest value shown.
        log: whether equal steps are equal factors; both ends are above 0.
    """

    label: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def around(
        cls,
        label: str,
        values: Sequence[float],
        low: float | None = None,
        high: float | None = None,
        log: bool = False,
    ) -> Axis:
        """An axis that holds all finite values, with some room where no end is given."""
        finite = [float(v) for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0 if log else 0.0]
        first, last = min(finite), max(finite)
        if log:
            first, last = first / 1.3, last * 1.3
        else:
            room = 0.06 * (last - first) or abs(last) / 10 or 1.0
            first, last = first - room, last + room
        return cls(label, first if low is None else low, last if high is None else high, log)

    def part(self, value: float) -> float:
        """Where a value is: 0 at the low end, 1 at the high end."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Round values within the axis, and their texts."""
        locators: list[Any] = (
            [LogLocator(subs=steps) for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0))] if self.log else []
        )
        # a log axis of less than a decade has too few of its own
        locators.append(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        # beyond the ends by rounding only
        margin = 0 if self.log else 1e-9 * (self.high - self.low)
        inside: list[float] = []
        for locator in locators:
            values = np.asarray(locator.tick_values(self.low, self.high), dtype=float)
            inside = [float(v) for v in values if self.low - margin <= v <= self.high + margin]
            if len(inside) >= 3:
                break
        return [(value, f"{round(value, 9):.10g}".replace("-", "−")) for value in inside]


@dataclass(frozen=True)
class Dot:
    """One case.

    Args:
        x: its value along the first axis.
        y: along the second.
        name: said when it is pointed at.
        colour: #rrggbb.
    """

    x: float
    y: float
    name: str
    colour: str


@dataclass(frozen=True)
class Curve:
    """Values in order, joined by a line.

    Args:
        points: (x, y) of each.
        name: said when it is pointed at, and at its end.
        colour: #rrggbb.
        dashed: whether the line is.
    """

    points: Sequence[tuple[float, float]]
    name: str
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Rule:
    """A level across the chart, with its text."""

    y: float
    text: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Points, curves and levels over two axes."""

    title: str
    x: Axis
    y: Axis
    dots: Sequence[Dot] = ()
    curves: Sequence[Curve] = ()
    rules: Sequence[Rule] = ()
    kind: str = "chart"

    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP

    @property
    def right(self) -> int:
        """Right end of the area of values."""
        return self.width - RIGHT

    @property
    def bottom(self) -> int:
        """Lower end of the area of values."""
        return self.height - BOTTOM

    def at_x(self, value: float) -> float:
        """Pixel of a value along the first axis."""
        return round(self.left + self.x.part(value) * (self.right - self.left), 2)

    def at_y(self, value: float) -> float:
        """Pixel of a value along the second axis."""
        return round(self.bottom - self.y.part(value) * (self.bottom - self.top), 2)

    def path(self, curve: Curve) -> str:
        """The points of a curve as SVG writes them."""
        return " ".join(f"{self.at_x(x)},{self.at_y(y)}" for x, y in curve.points)


@dataclass(frozen=True)
class Spread:
    """The values of one row: every one of them, and their box.

    Args:
        name: of the row.
        values: all of them.
        names: of the values, said when they are pointed at.
        colour: #rrggbb.
        note: at the end of the row.
    """

    name: str
    values: Sequence[float]
    names: Sequence[str]
    colour: str
    note: str = ""

    @property
    def box(self) -> dict[str, float]:
        """Quartiles, median, mean, and the whiskers: the last values within 1.5 interquartile ranges of the box."""
        values = np.asarray(self.values, dtype=float)
        q1, median, q3 = (float(v) for v in np.percentile(values, [25, 50, 75]))
        reach = 1.5 * (q3 - q1)
        inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
        ends = {"low": float(inside.min()), "high": float(inside.max())}
        return {"q1": q1, "median": median, "q3": q3, "mean": float(values.mean()), **ends}

    def lift(self, index: int) -> float:
        """How far a value stands from the middle of the row, in pixels, so that equal ones are seen beside each other."""
        return round((index * 0.618034 % 1 - 0.5) * 0.5 * ROW, 2)


@dataclass(frozen=True)
class Spreads:
    """Rows of values over one axis, one below the other."""

    title: str
    x: Axis
    rows: Sequence[Spread] = field(default_factory=list)
    kind: str = "spreads"

    width: int = WIDTH + 100

    @property
    def left(self) -> int:
        """Room for the names."""
        return min(200, 24 + round(6.8 * max((min(len(row.name), 26) for row in self.rows), default=0)))

    @property
    def right(self) -> int:
        """Right end of the area of values; the notes are beyond it."""
        return self.width - 24 - round(6.2 * max((len(row.note) for row in self.rows), default=0))

    @property
    def top(self) -> int:
        """Upper end of the area of values."""
        return TOP

    @property
    def bottom(self) -> int:
        """Lower end of the area of values."""
        return TOP + ROW * len(self.rows) + 6

    @property
    def height(self) -> int:
        """Of the picture."""
        return self.bottom + BOTTOM

    def at_x(self, value: float) -> float:
        """Pixel of a value."""
        return round(self.left + self.x.part(value) * (self.right - self.left), 2)

    def middle(self, index: int) -> float:
        """Pixel of the middle of a row."""
        return TOP + ROW * (index + 0.5) + 3
