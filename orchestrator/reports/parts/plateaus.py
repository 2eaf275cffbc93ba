"""The width of a plateau: of the range of a learning rate or a weight scale that trains.

It is log10(highest / lowest) over the contiguous values around the best whose objective stays within a fifth of it: at least 0.8
times the best accuracy; of a loss, at most a fifth of the way from the best up to that of guessing. What diverged is outside.
Both edges lie somewhere between a value that trains and the next that does not, and both widths are told.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.reports.parts.chance import guess

WITHIN = 0.2
FEWEST, MOST = 4, 24
"""Bins over the range of a key."""

A_BIN = 4
"""Trials that a bin of a line should have, on average."""

GRID = 60
"""Up to so many different values are not binned where nothing but the line varies beside them, or trials repeat them."""


@dataclass(frozen=True)
class Point:
    """A trial: the value of the searched number and the objective, None where it diverged."""

    trial: int
    x: float
    value: float | None


@dataclass(frozen=True)
class Bin:
    """The trials of a line whose number lies in a part of the range, or is one value.

    Args:
        x: their geometric mean.
        best, median: of the objective, where one that diverged is worse than all; None where it is such a trial.
    """

    x: float
    points: tuple[Point, ...]
    best: float | None
    median: float | None


@dataclass(frozen=True)
class Plateau:
    """The range around the best value of a line that trains.

    Args:
        limit: the objective at its edge.
        below, above: the nearest values outside that were tried; None where there are none, and it may go on.
    """

    low: float
    high: float
    limit: float
    below: float | None
    above: float | None

    @property
    def decades(self) -> float:
        return math.log10(self.high) - math.log10(self.low)

    @property
    def ends(self) -> str:
        """`0.01 to 1`."""
        return f"{self.low:.2g}" if self.low == self.high else f"{self.low:.2g} to {self.high:.2g}"

    @property
    def words(self) -> str:
        """`2.6 to 3.0 decades`: the edges lie somewhere between what trains and what does not."""
        if self.low == self.high:
            return "one value of those tried"
        if self.below is None or self.above is None:
            return f"at least {self.decades:.1f} decades"
        least, most = f"{self.decades:.1f}", f"{math.log10(self.above) - math.log10(self.below):.1f}"
        return f"{least} decades" if least == most else f"{least} to {most} decades"


def binned(points: Sequence[Point], edges: Sequence[float] | None, sign: int) -> list[Bin]:
    """The points by their place between `edges` (ascending; the last is included), or by their value where there are none."""
    parts: dict[float, list[Point]] = {}
    for point in points:
        place = point.x if edges is None else max(sum(edge <= point.x for edge in edges[1:-1]), 0)
        parts.setdefault(place, []).append(point)
    return [_bin(parts[place], sign) for place in sorted(parts)]


def _bin(points: Sequence[Point], sign: int) -> Bin:
    worst = -math.inf
    scores = sorted(worst if point.value is None else sign * point.value for point in points)
    x = math.exp(statistics.fmean(math.log(point.x) for point in points))
    best, median = scores[-1], statistics.median_low(scores)
    back = [None if score == worst else sign * score for score in (best, median)]
    return Bin(x, tuple(sorted(points, key=lambda point: point.x)), *back)


def edges_of(points: Sequence[Point], lines: int, *, alone: bool) -> list[float] | None:
    """The edges of bins of equal width in log10; None where each value is a bin of its own, as on a grid.

    Args:
        alone: whether no key is searched beside the number and that of the lines.
    """
    values = sorted({point.x for point in points})
    if len(values) <= GRID and (alone or len(values) * 2 <= len(points) or len(values) <= FEWEST):
        return None
    count = min(max(len(points) // (lines * A_BIN), FEWEST), MOST)
    low, high = math.log10(values[0]), math.log10(values[-1])
    inner = [10 ** (low + (high - low) * step / count) for step in range(1, count)]
    return [values[0], *inner, values[-1]]


def limit_of(best: float, metric: str, classes: int | None) -> float | None:
    """The objective at the edge of a plateau; None for a loss of an unknown number of classes."""
    if metric.endswith("accuracy"):
        return (1 - WITHIN) * best
    return best + WITHIN * (guess(metric, classes) - best) if classes else None


def plateau(bins: Sequence[Bin], limit: float, sign: int, *, bridged: bool = False) -> Plateau | None:
    """The contiguous bins around the best whose best trial reaches `limit`; None where all diverged.

    Args:
        bridged: a single bin between two that reach it belongs to them: of trials at random it may lack a good one by chance.
    """
    inside = [bin.best is not None and sign * bin.best >= sign * limit for bin in bins]
    if bridged:
        sides = zip([False, *inside], inside, [*inside[1:], False], strict=False)
        inside = [here or (before and after) for before, here, after in sides]
    if not any(inside):
        return None
    top = max(range(len(bins)), key=lambda place: -math.inf if bins[place].best is None else sign * bins[place].best)  # type: ignore[operator]
    low = high = top
    while low > 0 and inside[low - 1]:
        low -= 1
    while high + 1 < len(bins) and inside[high + 1]:
        high += 1
    inside_x = [
        point.x
        for bin in bins[low : high + 1]
        for point in bin.points
        if point.value is not None and sign * point.value >= sign * limit
    ]
    first, last = min(inside_x), max(inside_x)
    every = [point.x for bin in bins for point in bin.points]
    below, above = max((x for x in every if x < first), default=None), min((x for x in every if x > last), default=None)
    return Plateau(first, last, limit, below, above)
