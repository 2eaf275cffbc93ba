"""Whether confidence can be trusted: reliability diagrams of the best single member, the winner, and any other method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.ensembles.page.view import View, percent
from orchestrator.reports.figure import BLUE, CHOSEN, FAINT, GREY, ORANGE, RED, Figure, strength

OTHERS = 60
"""Methods that can be selected."""


def figure(view: View) -> Figure | None:
    """None where no method has bins."""
    have = [number for number in range(len(view.rows)) if _bins(view, number)]
    if not have:
        return None
    ends = _ends(view, have)
    first = [number for number in dict.fromkeys((view.single, view.winner)) if number in have]
    colors = {view.single: ORANGE, view.winner: RED}
    panels = [_spec(view, [number], colors[number], ends) for number in first if number is not None]
    others = [number for number in have if number not in first][:OTHERS]
    if others:
        panels.append(_spec(view, others, BLUE, ends))
    return Figure(
        name="reliability",
        title="Can their confidence be trusted?",
        text=_text(view, first or have[:1]),
        panels=panels,
        min_width=300,
    )


def _bins(view: View, number: int) -> list[tuple[float, float, int]]:
    bins = view.scores(view.rows[number])["reliability"]
    return [
        (confidence, right, count)
        for confidence, right, count in bins
        if math.isfinite(confidence) and math.isfinite(right)
    ]


def _ends(view: View, have: Sequence[int]) -> list[float]:
    """The common ends of both axes, in percent."""
    found = [
        100 * one for number in have for confidence, right, _ in _bins(view, number) for one in (confidence, right)
    ]
    return [max(0, 10 * math.floor(min(found) / 10)), min(100, 10 * math.ceil(max(found) / 10))]


def _text(view: View, shown: Sequence[int | None]) -> str:
    parts = []
    for number in shown:
        if number is None:
            continue
        measures = view.scores(view.rows[number])["measures"]
        gap, bins = measures.get("ece", math.nan), _bins(view, number)
        over = sum((confidence - right) * count for confidence, right, count in bins)
        said = "too confident" if over > 0 else "too cautious"
        parts.append(f"{view.method(number)} is off by {percent(gap)} on average (ECE), {said} on the whole")
    return (
        f"{'; '.join(parts)}. Each dot is one of equally large groups of {view.split} images, ordered by confidence; on the "
        "dashed line confidence is as high as accuracy, below it the ensemble promises too much."
    )


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(view: View, numbers: Sequence[int], color: str, ends: Sequence[float]) -> dict[str, Any]:
    rows = [
        {"trial": number, "confidence": 100 * confidence, "accuracy": 100 * right, "images": count}
        for number in numbers
        for confidence, right, count in _bins(view, number)
    ]
    scale = {"domain": list(ends), "nice": False, "clamp": True}
    x = {
        "field": "confidence",
        "type": "quantitative",
        "title": "mean confidence (%)",
        "scale": scale,
        "axis": {"tickCount": 5},
    }
    y = {
        "field": "accuracy",
        "type": "quantitative",
        "title": f"{view.split} accuracy (%)",
        "scale": scale,
        "axis": {"tickCount": 5},
    }
    tooltip = [
        {"field": "confidence", "title": "mean confidence (%)", "format": ".2f"},
        {"field": "accuracy", "title": "accuracy (%)", "format": ".2f"},
        {"field": "images"},
    ]
    mine = [{"filter": "any_chosen ? chosen[datum.trial] : datum.trial === shown"}] if len(numbers) > 1 else []
    diagonal = {
        "data": {"values": [{"confidence": end, "accuracy": end} for end in ends]},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": GREY, "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y},
    }
    gap = {
        "mark": {"type": "rule", "strokeWidth": 7, "color": color},
        "encoding": {"x": x, "y": y, "y2": {"field": "confidence"}, "opacity": strength(0.25)},
    }
    line = {
        "mark": {"type": "line", "color": color, "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "detail": {"field": "trial"}, "opacity": strength(1.0, 2 * FAINT)},
    }
    dots = {
        "mark": {"type": "point", "filled": True, "size": 50, "color": color, "cursor": "pointer"},
        "encoding": {"x": x, "y": y, "tooltip": tooltip, "opacity": strength(1.0)},
    }
    layers = [{"data": {"values": rows}, "transform": mine, **layer} for layer in (gap, line, dots)]
    spec: dict[str, Any] = {"params": [CHOSEN], "width": "container", "height": 260, "layer": [diagonal, *layers]}
    if len(numbers) > 1:
        names = [view.method(number, 30) for number in numbers]
        spec["title"] = {"text": {"expr": "any_chosen ? 'what is chosen' : names[shown]"}}
        bind = {"input": "select", "name": "method ", "options": list(numbers), "labels": names}
        named = {"name": "names", "value": dict(zip(map(str, numbers), names, strict=True))}
        any_chosen = " || ".join(f"chosen[{number}]" for number in numbers)
        spec["params"] = [
            CHOSEN,
            named,
            {"name": "shown", "value": numbers[0], "bind": bind},
            {"name": "any_chosen", "expr": f"chosen !== null && ({any_chosen})"},
        ]
    else:
        spec["title"] = view.method(numbers[0], 40)
    return spec
