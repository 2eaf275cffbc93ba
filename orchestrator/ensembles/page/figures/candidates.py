"""The candidates by their rank and validation accuracy, and which of them the winner takes."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.ensembles.comparison import Row, has_weights
from orchestrator.ensembles.page.view import View, counted, percent, whole_axis
from orchestrator.reports.data import cut
from orchestrator.reports.figure import CHOSEN, GREY, RED, Figure, strength

CROWD = 200
"""Members above which the points are smaller."""


def figure(view: View) -> Figure | None:
    """None of fewer than two candidates with an accuracy."""
    rows = _rows(view)
    if len(rows) < 2 or view.winner is None:
        return None
    return Figure(name="candidates", title="Which members does the winner take?", text=_text(view), spec=_spec(rows))


def _rows(view: View) -> list[dict[str, Any]]:
    winner = view.rows[view.winner] if view.winner is not None else None
    weights = view.taken(winner) if winner else {}
    return [
        {
            "trial": view.number(place),
            "rank": place + 1,
            "accuracy": 100 * member["val_accuracy"],
            "weight": 100 * weights.get(place, 0.0),
            "kind": "in the winner" if place in weights else "other candidate",
            "architecture": cut(member["architecture"], 40),
        }
        for place, member in enumerate(view.trials)
        if math.isfinite(member["val_accuracy"])
    ]


def _text(view: View) -> str:
    assert view.winner is not None
    row = view.rows[view.winner]
    taken = [place for place in view.taken(row) if 0 <= place < len(view.trials)]
    if not taken:
        return "Which members the winner has is not recorded."
    values = [view.members[place]["val_accuracy"] for place in taken]
    text = (
        f"{view.method(view.winner)} takes {len(taken):,} of {counted(len(view.trials), 'candidate')}, with validation "
        f"accuracies of {percent(min(values))} to {percent(max(values))}"
    )
    last = max(taken) + 1
    text += f"; the lowest ranked is number {last:,}." if len(taken) > 1 else "."
    kinds = {view.members[place]["architecture"] for place in taken}
    if len(kinds) > 1:
        text += f" They are of {len(kinds):,} architectures."
    return f"{text} {_about_weights(view, row, len(taken))}"


def _about_weights(view: View, row: Row, taken: int) -> str:
    """What the winner weights its members by; nothing of a single one."""
    if row["pooling"] == "stacked":
        classes = len(view.comparison["classes"])
        return (
            f"No member has one weight: stacking gives each {classes**2:,} coefficients, one for each pair of a class that the "
            "member says and a class that the ensemble says."
        )
    if has_weights(row):
        return "A larger dot has more weight."
    return "All of them have the same weight." if taken > 1 else ""


def _spec(rows: list[dict[str, Any]]) -> dict[str, Any]:
    many = len(rows) > CROWD
    kinds = ["in the winner", "other candidate"]
    legend = {"orient": "top", "title": None}
    return {
        "params": [CHOSEN],
        "data": {"values": rows},
        "width": "container",
        "height": 240,
        "transform": [{"calculate": "datum.weight > 0 ? 1 : 0", "as": "front"}],
        "mark": {"type": "point", "filled": True, "tooltip": True, "cursor": "pointer"},
        "encoding": {
            "x": {
                "field": "rank",
                "type": "quantitative",
                "title": "rank by the objective (1 is the best)",
                "scale": {"nice": False, "zero": False, "padding": 12},
                "axis": whole_axis(rows[-1]["rank"]),
            },
            "y": {
                "field": "accuracy",
                "type": "quantitative",
                "title": "validation accuracy (%)",
                "scale": {"zero": False},
            },
            "size": {
                "field": "weight",
                "type": "quantitative",
                "legend": None,
                "scale": {"range": [14 if many else 40, 260]},
            },
            "color": {
                "field": "kind",
                "type": "nominal",
                "legend": legend,
                "scale": {"domain": kinds, "range": [RED, GREY]},
            },
            "shape": {
                "field": "kind",
                "type": "nominal",
                "legend": legend,
                "scale": {"domain": kinds, "range": ["diamond", "circle"]},
            },
            "order": {"field": "front", "type": "quantitative"},
            "opacity": strength(0.55 if many else 0.85),
        },
    }
