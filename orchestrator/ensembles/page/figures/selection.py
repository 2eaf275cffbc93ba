"""Which members a greedy selection takes, when, and what each brings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.ensembles.page.view import View, counted, whole_axis
from orchestrator.reports.figure import BLUE, CHOSEN, GREY, RED, Figure, strength
from orchestrator.reports.parts.drawing import TITLE_ABOVE

STEPS, MEMBERS = 100, 40
"""Steps that are drawn, and members that have a line of their own."""

Step = tuple[int, float]


def chosen_method(view: View) -> int | None:
    """The winner, if it goes by steps, else the method with the most steps."""
    stepped = [number for number, row in enumerate(view.rows) if row["steps"]]
    if view.winner in stepped:
        return view.winner
    return max(stepped, key=lambda number: len(view.rows[number]["steps"]), default=None)


def figure(view: View) -> Figure | None:
    """None where no method goes by steps."""
    number = chosen_method(view)
    if number is None:
        return None
    steps = [(place, score) for place, score in view.rows[number]["steps"] if 0 <= place < len(view.members)]
    if not steps:
        return None
    shown = steps[:STEPS]
    order = list(dict.fromkeys(place for place, _ in shown))
    panels = [_taken(view, number, shown, order[:MEMBERS])]
    if sum(math.isfinite(score) for _, score in shown) > 1:
        panels.append(_scores(view, number, shown))
    return Figure(
        name="selection",
        title="Which members does the greedy selection take, and when?",
        text=_text(view, number, steps, order),
        panels=panels,
        min_width=400,
    )


def _text(view: View, number: int, steps: Sequence[Step], order: Sequence[int]) -> str:
    counts = {place: sum(one == place for one, _ in steps) for place in order}
    most = max(counts, key=lambda place: counts[place])
    taken = counted(len({one for one, _ in steps}), "member")
    text = f"{view.method(number)} goes by {counted(len(steps), 'step')} and takes {taken}"
    text += f"; most often {view.name(most)}, {counts[most]} times." if counts[most] > 1 else ", each once."
    others = [view.method(n) for n, row in enumerate(view.rows) if row["steps"] and n != number]
    if others:
        text += f" The steps of {', '.join(others[:4])} are not drawn; a click on the method shows its members."
    if len(steps) > STEPS:
        text += f" The first {STEPS} steps are shown."
    if len(order) > MEMBERS:
        text += f" The first {MEMBERS} members have a line."
    return text


# The pictures ---------------------------------------------------------------------------------------------------------


def _across(steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "field": "step",
        "type": "quantitative",
        "title": "step of the selection",
        "axis": whole_axis(len(steps)),
        "scale": {"nice": False, "zero": False, "padding": 12},
    }


def _taken(view: View, number: int, steps: Sequence[Step], order: Sequence[int]) -> dict[str, Any]:
    across = _across(steps)
    at = {place: line for line, place in enumerate(order)}
    seen: set[int] = set()
    rows: list[dict[str, Any]] = []
    for step, (place, _) in enumerate(steps, start=1):
        if place in at:
            rows.append(
                {
                    "trial": view.number(place),
                    "step": step,
                    "line": at[place],
                    "pick": "again" if place in seen else "first",
                }
            )
            seen.add(place)
    names = [view.name(place, 26) for place in order]
    y = {
        "field": "line",
        "type": "ordinal",
        "title": "member",
        "scale": {"domain": list(range(len(order)))},
        "axis": {"labelExpr": "names[datum.value]", "labelLimit": 200, "grid": True, **TITLE_ABOVE},
    }
    span = {
        "transform": [
            {
                "aggregate": [{"op": "min", "field": "step", "as": "from"}, {"op": "max", "field": "step", "as": "to"}],
                "groupby": ["line", "trial"],
            }
        ],
        "mark": {"type": "rule", "strokeWidth": 2, "color": BLUE},
        "encoding": {"x": {**across, "field": "from"}, "x2": {"field": "to"}, "y": y, "opacity": strength(0.3)},
    }
    kinds = {"domain": ["first", "again"], "range": [RED, BLUE]}
    dots = {
        "mark": {"type": "point", "filled": True, "tooltip": True, "cursor": "pointer"},
        "encoding": {
            "x": across,
            "y": y,
            "color": {
                "field": "pick",
                "type": "nominal",
                "title": "taken",
                "legend": {"orient": "top"},
                "scale": kinds,
            },
            "shape": {
                "field": "pick",
                "type": "nominal",
                "title": "taken",
                "legend": {"orient": "top"},
                "scale": {**kinds, "range": ["diamond", "circle"]},
            },
            "size": {"condition": {"test": "datum.pick === 'first'", "value": 130}, "value": 55},
            "opacity": strength(1.0),
        },
    }
    return {
        "params": [CHOSEN, {"name": "names", "value": names}],
        "data": {"values": rows},
        "width": "container",
        "height": max(160, 18 * len(order)),
        "layer": [span, dots],
    }


def _scores(view: View, number: int, steps: Sequence[Step]) -> dict[str, Any]:
    scores = [score for _, score in steps if math.isfinite(score)]
    factor, title, form = 1.0, "validation score (more is better)", ".4~g"
    if max(scores) <= 0:  # the selection makes the negative NLL large
        factor, title, form = -1.0, "validation NLL (nats)", ".4~g"
    elif min(scores) >= 0 and max(scores) <= 1:
        factor, title, form = 100.0, "validation accuracy (%)", ".4~g"
    rows = [
        {"trial": view.number(place), "step": step, "score": factor * score}
        for step, (place, score) in enumerate(steps, start=1)
        if math.isfinite(score)
    ]
    across = _across(steps)
    y = {"field": "score", "type": "quantitative", "title": title, "scale": {"zero": False}, "axis": {"format": form}}
    line = {"mark": {"type": "line", "color": GREY, "interpolate": "step-after"}, "encoding": {"x": across, "y": y}}
    dots = {
        "mark": {"type": "point", "filled": True, "size": 60, "color": BLUE, "tooltip": True, "cursor": "pointer"},
        "encoding": {"x": across, "y": y, "opacity": strength(1.0)},
    }
    return {"params": [CHOSEN], "data": {"values": rows}, "width": "container", "height": 260, "layer": [line, dots]}
