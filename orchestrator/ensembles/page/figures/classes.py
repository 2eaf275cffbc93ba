"""Which classes the winner helps: accuracy of each, of the best single member and of the winner."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.ensembles.page.view import View, counted, percent
from orchestrator.reports.figure import CHOSEN, GREY, ORANGE, RED, Figure, strength
from orchestrator.reports.parts.drawing import TITLE_ABOVE

CLASSES = 40
"""So many are drawn: those that changed most."""


def changes(view: View) -> list[tuple[int, float, float]]:
    """(class, accuracy of the best single member, of the winner) of the classes that have examples."""
    if view.winner is None or view.single is None or view.winner == view.single:
        return []
    single, winner = (view.scores(view.rows[number])["per_class_accuracy"] for number in (view.single, view.winner))
    pairs = enumerate(zip(single, winner, strict=False))
    return [
        (k, one, other)
        for k, (one, other) in pairs
        if one is not None and other is not None and math.isfinite(one + other)
    ]


def figure(view: View) -> Figure | None:
    """None where the winner is the best single member, or fewer than two classes have examples."""
    found = changes(view)
    if len(found) < 2:
        return None
    most = sorted(found, key=lambda one: -abs(one[2] - one[1]))[:CLASSES]
    shown = sorted(most, key=lambda one: (one[2] - one[1], one[0]), reverse=True)
    return Figure(
        name="classes", title="Which classes gain?", text=_text(view, found, len(shown)), spec=_spec(view, shown)
    )


def _text(view: View, found: list[tuple[int, float, float]], shown: int) -> str:
    better = [one for one in found if one[2] > one[1]]
    worse = [one for one in found if one[2] < one[1]]
    text = f"Against the best single member {counted(len(better), 'class gains', 'classes gain')}, and "
    text += f"{counted(len(worse), 'class loses', 'classes lose')}, of {len(found):,}."
    weakest = min(found, key=lambda one: (one[2], one[0]))
    text += f" The winner's weakest class is {view.class_name(weakest[0])} with {percent(weakest[2])}."
    return text + (f" The {shown} classes that change most are shown." if shown < len(found) else "")


def _spec(view: View, shown: list[tuple[int, float, float]]) -> dict[str, Any]:
    kinds = ["best single member", "winner"]
    rows = [
        {
            "line": line,
            "class": view.class_name(k, 40),
            "whose": whose,
            "trial": number,
            "accuracy": 100 * value,
            "from": 100 * one,
            "to": 100 * other,
        }
        for line, (k, one, other) in enumerate(shown)
        for whose, value, number in zip(kinds, (one, other), (view.single, view.winner), strict=True)
    ]
    names = [view.class_name(k) for k, _, _ in shown]
    y = {
        "field": "line",
        "type": "ordinal",
        "title": "class",
        "axis": {"labelExpr": "names[datum.value]", "labelLimit": 160, "grid": False, **TITLE_ABOVE},
    }
    x = {
        "type": "quantitative",
        "title": f"{view.split} accuracy of the class (%)",
        "scale": {"zero": False},
        "axis": {"tickCount": 8},
    }
    legend = {"orient": "top", "title": None}
    colors = {"domain": kinds, "range": [ORANGE, RED]}
    return {
        "params": [CHOSEN, {"name": "names", "value": names}],
        "data": {"values": rows},
        "width": "container",
        "height": max(80, 20 * len(shown)),
        "layer": [
            {
                "transform": [{"filter": "datum.whose === 'winner'"}],
                "mark": {"type": "rule", "strokeWidth": 2, "color": GREY},
                "encoding": {"y": y, "x": {**x, "field": "from"}, "x2": {"field": "to"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "cursor": "pointer"},
                "encoding": {
                    "y": y,
                    "x": {**x, "field": "accuracy"},
                    "opacity": strength(1.0),
                    "color": {"field": "whose", "type": "nominal", "legend": legend, "scale": colors},
                    "shape": {
                        "field": "whose",
                        "type": "nominal",
                        "legend": legend,
                        "scale": {**colors, "range": ["square", "diamond"]},
                    },
                    "tooltip": [
                        {"field": "class"},
                        {"field": "whose"},
                        {"field": "accuracy", "format": ".2f", "title": "accuracy (%)"},
                    ],
                },
            },
        ],
    }
