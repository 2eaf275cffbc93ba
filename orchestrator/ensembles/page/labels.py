"""Where the names of points stand beside them, so that none lies on another or on a point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

FONT = 11
WIDE, HIGH = 560, 250
"""Pixels of the plot, as for a narrow page; on a wider one there is more room."""

Box = tuple[float, float, float, float]

SIDES = [(side, dy) for dy in (-13, 13, 0, -26, 26, -39, 39) for side in ("left", "right")]
"""What is tried in turn: the alignment of the text, and how far below the point it stands."""


def placed(rows: Sequence[Mapping[str, Any]], x: str, y: str, text: str, *, log: bool) -> list[dict[str, Any]]:
    """The rows whose name finds room, in their order of importance, with `align`, `dx` and `dy`."""
    spots = _spots(rows, x, y, log)
    taken: list[Box] = [(across - 7, up - 7, across + 7, up + 7) for across, up in spots]
    found = []
    for row, (across, up) in zip(rows, spots, strict=True):
        length = 0.58 * FONT * len(row[text])
        for align, dy in SIDES:
            dx = (10 if dy == 0 else 4) * (1 if align == "left" else -1)
            start = across + dx - (0 if align == "left" else length)
            box = (start, up + dy - 6, start + length, up + dy + 6)
            if start < -40 or start + length > WIDE + 60 or any(_meet(box, other) for other in taken):
                continue
            taken.append(box)
            found.append({**row, "align": align, "dx": dx, "dy": dy})
            break
    return found


def _spots(rows: Sequence[Mapping[str, Any]], x: str, y: str, log: bool) -> list[tuple[float, float]]:
    """The points in pixels from the upper left."""
    columns = [[math.log(row[x]) if log else float(row[x]) for row in rows], [float(row[y]) for row in rows]]
    scaled = []
    for column in columns:
        low, size = min(column), (max(column) - min(column)) or 1.0
        scaled.append([(value - low) / size for value in column])
    return [(WIDE * across, HIGH * (1 - up)) for across, up in zip(*scaled, strict=True)]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
