"""Where the names of points stand beside them, so that none lies on another or on a point, however wide the page is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FONT = 11
WIDTHS = range(480, 1321, 40)
"""Pixels of the plot, from a narrow page to the widest one: with the width, points move apart and their names do not."""

HEIGHT = 340
MARGINS = (40, 8)
"""Pixels of the plot beside and above its outermost points, which the scales have as their padding."""

SIDES = [(side, dy) for dy in (-13, 13, -26, 26, -39, 39, 0) for side in ("left", "right")]
"""What is tried in turn: the alignment of the text, and how far below the point it stands."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


@dataclass(frozen=True)
class Plot:
    """A plot of points.

    Args:
        x, y, text: the fields of a row: its place, and its name.
        across, up: the ends of the two axes.
        log: whether the horizontal one is logarithmic.
    """

    x: str
    y: str
    text: str
    across: Sequence[float]
    up: Sequence[float]
    log: bool

    def spot(self, row: Row, width: int) -> tuple[float, float]:
        """The point of a row in pixels from the upper left."""
        across = _share(row[self.x], self.across, log=self.log)
        up = _share(row[self.y], self.up, log=False)
        return MARGINS[0] + across * (width - 2 * MARGINS[0]), MARGINS[1] + (1 - up) * (HEIGHT - 2 * MARGINS[1])


def placed(plot: Plot, named: Sequence[Row], others: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows whose name finds room, in their order of importance, with `align`, `dx` and `dy`.

    Args:
        others: points without a name.
    """
    taken = [[_around(plot.spot(row, width)) for row in (*named, *others)] for width in WIDTHS]
    found = []
    for row in named:
        for align, dy in SIDES:
            dx = (10 if dy == 0 else 4) * (1 if align == "left" else -1)
            boxes = [_beside(plot.spot(row, width), row[plot.text], align, dx, dy) for width in WIDTHS]
            if all(map(_has_room, boxes, WIDTHS, taken)):
                for box, of_width in zip(boxes, taken, strict=True):
                    of_width.append(box)
                found.append({**row, "align": align, "dx": dx, "dy": dy})
                break
    return found


def _share(value: float, ends: Sequence[float], *, log: bool) -> float:
    value, low, high = (math.log(one) if log else one for one in (value, *ends))
    return (value - low) / (high - low) if high > low else 0.5


def _around(spot: tuple[float, float]) -> Box:
    return Box(spot[0] - 7, spot[1] - 7, spot[0] + 7, spot[1] + 7)


def _beside(spot: tuple[float, float], text: str, align: str, dx: float, dy: float) -> Box:
    length = 0.62 * FONT * len(text)
    left = spot[0] + dx - (0 if align == "left" else length)
    return Box(left, spot[1] + dy - 6, left + length, spot[1] + dy + 6)


def _has_room(box: Box, width: int, taken: Sequence[Box]) -> bool:
    inside = box.left >= 0 and box.right <= width and box.top >= -8 and box.bottom <= HEIGHT
    return inside and not any(box.meets(other) for other in taken)
