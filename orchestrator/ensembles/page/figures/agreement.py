"""The members of the winner, ordered by how often they disagree, as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from orchestrator.ensembles.page.view import View, percent
from orchestrator.reports.figure import BLUE, CHOSEN, FAINT, Figure, strength

CELLS = 50
"""Members a side; of more, neighbours are averaged."""

NUMBERED = 14
"""Members up to which the shares are written out."""

Matrix = Sequence[Sequence[float]]


def figure(view: View) -> Figure | None:
    """None where the winner has one member, or none is fixed."""
    places, matrix = view.comparison.get("agreement", ((), ()))
    if (
        view.winner is None
        or len(places) < 2
        or len(matrix) != len(places)
        or any(len(row) != len(places) for row in matrix)
    ):
        return None
    blocks = blocks_of(len(places), CELLS)
    return Figure(
        name="agreement",
        title="How often do the members disagree?",
        text=_text(view, places, matrix, len(blocks)),
        panels=[_spec(view, places, matrix, blocks), _apart(view, places, matrix)],
        min_width=_side(blocks) * len(blocks) + 150,
    )


def blocks_of(count: int, most: int) -> list[range]:
    """Neighbours that share a cell: at most `most` ranges that are equally long but for one."""
    cells = min(count, most)
    ends = [round(count * cell / cells) for cell in range(cells + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


def mean_share(matrix: Matrix, up: range, across: range) -> float | None:
    """The mean over two blocks, a member with itself left out; None where nothing is left."""
    shares = [matrix[i][j] for i in up for j in across if i != j and math.isfinite(matrix[i][j])]
    return sum(shares) / len(shares) if shares else None


def _text(view: View, places: Sequence[int], matrix: Matrix, cells: int) -> str:
    pairs = [
        (matrix[i][j], i, j)
        for i in range(len(places))
        for j in range(i + 1, len(places))
        if math.isfinite(matrix[i][j])
    ]
    if not pairs:
        return "Nothing is known of how often they say the same."
    mean = sum(share for share, _, _ in pairs) / len(pairs)
    far, one, other = max(pairs)
    text = (
        f"Two members of the winner say different classes for {percent(mean)} of the {view.split} images on average; "
        f"{view.name(places[one])} and {view.name(places[other])} for the most, {percent(far)}. "
        "This is shown, and nothing is selected by it: diversity for its own sake harms strong members."
    )
    assert view.winner is not None
    members = len(view.rows[view.winner]["members"])
    if len(places) < members:
        text += f" Of its {members:,} members {len(places):,} are compared."
    return text + (
        f" {len(places):,} members are drawn in {cells} groups of neighbours, by their mean."
        if cells < len(places)
        else ""
    )


def _spec(view: View, places: Sequence[int], matrix: Matrix, blocks: Sequence[range]) -> dict[str, Any]:
    names = [_name(view, places, block) for block in blocks]
    rows: list[dict[str, Any]] = [
        {"up": up, "across": across, "percent": None if share is None else round(100 * share, 3)}
        | {
            "one": names[up],
            "other": names[across],
            "trial": _number(view, places, blocks[up]),
            "with": _number(view, places, blocks[across]),
        }
        for up in range(len(blocks))
        for across in range(len(blocks))
        if (share := mean_share(matrix, blocks[up], blocks[across])) is not None
    ]
    size = _side(blocks)
    axis = {"labelExpr": "names[datum.value]", "labelLimit": 80, "grid": False, "labelOverlap": True}
    domain = {"domain": list(range(len(blocks)))}
    # A cell is of two members: it is bright where one of them is chosen; groups of members are always.
    bright = {
        "condition": {
            "test": "chosen === null || datum.trial < 0 || chosen[datum.trial] || chosen[datum.with]",
            "value": 1,
        },
        "value": 2 * FAINT,
    }
    tooltip = [
        {"field": "one", "title": "member"},
        {"field": "other", "title": "and"},
        {"field": "percent", "title": "disagree on (% of images)", "format": ".2f"},
    ]
    color = {
        "field": "percent",
        "type": "quantitative",
        "title": "disagree on (% of images)",
        "scale": {"zero": False, "nice": True},
        "legend": {"orient": "bottom", "gradientLength": 200},
    }
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "cursor": "pointer"},
            "encoding": {"color": color, "opacity": bright, "tooltip": tooltip},
        }
    ]
    if len(blocks) <= NUMBERED:
        values = [row["percent"] for row in rows if row["percent"] is not None]
        middle = (min(values) + max(values)) / 2
        ink = f"datum.percent > {middle:.6g} ? inkBack : inkText"
        layers.append(
            {
                "mark": {"type": "text", "fill": {"expr": ink}, "fontSize": 11},
                "encoding": {"text": {"field": "percent", "format": ".1f"}},
            }
        )
    return {
        "params": [CHOSEN, {"name": "names", "value": names}],
        "data": {"values": rows},
        "width": {"step": size},
        "height": {"step": size},
        "encoding": {
            "x": {
                "field": "across",
                "type": "ordinal",
                "title": "member",
                "scale": domain,
                "axis": {**axis, "orient": "top", "labelAngle": -45},
            },
            "y": {"field": "up", "type": "ordinal", "title": "member", "scale": domain, "axis": axis},
        },
        "layer": layers,
    }


def _side(blocks: Sequence[range]) -> int:
    """Pixels of a cell."""
    return max(7, min(40, 360 // len(blocks)))


def _apart(view: View, places: Sequence[int], matrix: Matrix) -> dict[str, Any]:
    """Each member's accuracy against how much it differs from the others."""
    whole = range(len(places))
    rows = [
        {"trial": view.number(place), "apart": 100 * share, "accuracy": 100 * view.members[place]["val_accuracy"]}
        for at, place in enumerate(places)
        if (share := mean_share(matrix, range(at, at + 1), whole)) is not None
        and math.isfinite(view.members[place]["val_accuracy"])
    ]
    x = {"field": "apart", "title": "disagrees with the others on (% of images, mean)"}
    y = {"field": "accuracy", "title": "validation accuracy (%)"}
    both = {
        "type": "quantitative",
        "scale": {"zero": False, "padding": 12, "nice": False},
        "axis": {"tickCount": 6, "format": ".4~g"},
    }
    mark = {"type": "point", "filled": True, "size": 80, "color": BLUE, "tooltip": True, "cursor": "pointer"}
    return {
        "params": [CHOSEN],
        "data": {"values": rows},
        "width": "container",
        "height": 300,
        "mark": mark,
        "encoding": {"x": {**both, **x}, "y": {**both, **y}, "opacity": strength(0.85)},
    }


def _name(view: View, places: Sequence[int], block: range) -> str:
    return view.name(places[block[0]], 22) if len(block) == 1 else f"{block[0] + 1} to {block[-1] + 1}"


def _number(view: View, places: Sequence[int], block: range) -> int:
    """Of the member, for the page; -1 of a group."""
    return view.number(places[block[0]]) if len(block) == 1 else -1
