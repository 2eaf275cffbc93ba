"""Accuracy against multiply-adds: the methods, and those that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.base.text import short
from orchestrator.ensembles.page.figures.sizes import ranking_of, sampled
from orchestrator.ensembles.page.labels import FONT, HEIGHT, MARGINS, Plot, placed
from orchestrator.ensembles.page.view import View, counted, percent
from orchestrator.reports.data import cut
from orchestrator.reports.figure import BLUE, CHOSEN, GREEN, GREY, ORANGE, RED, Figure, strength
from orchestrator.reports.figures.cost import WIDE, Cost, frontier

ORDER = ["method", "best single", "winner"]
NAMED = 25
"""Methods above which only those of the frontier have their name beside them."""


def costs(view: View) -> list[Cost]:
    """The methods whose multiply-adds are known, but for those that are far below."""
    return [
        Cost(number, float(row["multiply_adds"]), view.estimate(row, "accuracy")["value"])
        for number, row in enumerate(view.rows)
        if row["multiply_adds"] and not view.is_far_below(number)
    ]


def figure(view: View) -> Figure | None:
    """None where fewer than two costs are known."""
    found = costs(view)
    if len({one.cost for one in found}) < 2:
        return None
    front = frontier(found, 1)
    return Figure(
        name="cost", title="What does accuracy cost?", text=_text(view, found, front), spec=_spec(view, found, front)
    )


def _text(view: View, found: Sequence[Cost], front: Sequence[Cost]) -> str:
    cheap, best = front[0], front[-1]
    ends = [f"{view.method(one.trial)} with {percent(one.value)} for {short(one.cost)}" for one in (cheap, best)]
    if len(front) == 1:
        text = f"No other method beats {ends[0]}, in accuracy or in multiply-adds."
    else:
        text = "The green line joins the methods that no other beats in both accuracy and multiply-adds: "
        text += f"from {ends[0]} to {ends[1]}."
    if any(view.estimate(view.rows[one.trial], "accuracy")["low"] is not None for one in found):
        text += " A bar is the 95 % interval."
    if _ranking(view):
        text += " The grey line takes the members by their rank, one after the other."
    if below := [view.method(number) for number in range(len(view.rows)) if view.is_far_below(number)]:
        text += f" Not drawn, as far below: {', '.join(below[:NAMED])}."
    if unknown := sum(not row["multiply_adds"] for row in view.rows):
        text += f" Of {counted(unknown, 'method')} the multiply-adds are not known{_why(view)}."
    return text


def _why(view: View) -> str:
    why = view.comparison["environment"].get("multiply_adds_missing")
    return f": {cut(why, 200)}" if why else ""


def _ranking(view: View) -> list[dict[str, Any]]:
    """Of the best members by value, as many as there are prefixes of: what they cost together, and their accuracy."""
    prefixes = ranking_of(view)
    rows, total = [], 0
    known = {size: accuracy for _, size, accuracy, _ in prefixes}
    for size, member in enumerate(view.trials, start=1):
        if member["multiply_adds"] is None:
            break
        total += member["multiply_adds"]
        if size in known:
            rows.append({"cost": total, "accuracy": 100 * known[size], "members": size})
    return sampled(rows) if len(rows) > 1 else []


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(view: View, found: Sequence[Cost], front: Sequence[Cost]) -> dict[str, Any]:
    ranking = _ranking(view)
    spent = [one.cost for one in found] + [row["cost"] for row in ranking]
    kind = "log" if max(spent) > WIDE * min(spent) else "linear"
    gained = _accuracies(view, found, ranking)
    x = {
        "field": "cost",
        "type": "quantitative",
        "title": f"multiply-adds an image{' (logarithmic)' if kind == 'log' else ''}",
        "scale": {
            "type": kind,
            "domain": [min(spent) if kind == "log" else 0, max(spent)],
            "nice": False,
            "padding": MARGINS[0],
        },
        "axis": {
            "format": "~s",
            "labelOverlap": True,
            **({} if kind == "log" else {"tickCount": 8, "labelExpr": "datum.value < 0 ? '' : datum.label"}),
        },
    }
    y = {
        "field": "accuracy",
        "type": "quantitative",
        "title": f"{view.split} accuracy (%)",
        "scale": {"zero": False, "domain": [min(gained), max(gained)], "nice": False, "padding": MARGINS[1]},
        "axis": {"labelExpr": "datum.value > 100 ? '' : datum.label"},
    }
    layers = [
        *_ranking_layer(ranking, x, y),
        _line(front, x, y),
        *_methods(view, found, {one.trial for one in front}, x, y),
    ]
    return {"params": [CHOSEN], "width": "container", "height": HEIGHT, "layer": layers}


def _accuracies(view: View, found: Sequence[Cost], ranking: Sequence[Mapping[str, Any]]) -> list[float]:
    """All that is drawn, ends of intervals too, in percent."""
    estimates = [view.estimate(view.rows[one.trial], "accuracy") for one in found]
    ends = [end for one in estimates for end in (one["value"], one["low"], one["high"])]
    values = [
        *(100 * end for end in ends if end is not None and math.isfinite(end)),
        *(row["accuracy"] for row in ranking),
    ]
    return values if max(values, default=0.0) > min(values, default=0.0) else [0.0, 100.0]


def _ranking_layer(
    rows: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if not rows:
        return []
    tooltip = [
        {"field": "members", "title": "best members"},
        {"field": "accuracy", "format": ".2f", "title": "accuracy (%)"},
        {"field": "cost", "format": ".3~s", "title": "multiply-adds"},
    ]
    mark = {"type": "line", "color": GREY, "strokeWidth": 1.2, "point": {"size": 12, "color": GREY}, "opacity": 0.7}
    return [{"data": {"values": list(rows)}, "mark": mark, "encoding": {"x": x, "y": y, "tooltip": tooltip}}]


def _line(front: Sequence[Cost], x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    rows = [{"cost": one.cost, "accuracy": 100 * one.value} for one in front]
    mark = {"type": "line", "interpolate": "step-after", "color": GREEN, "strokeWidth": 2.5, "opacity": 0.8}
    return {"data": {"values": rows}, "mark": mark, "encoding": {"x": x, "y": y}}


def _methods(
    view: View, found: Sequence[Cost], best: set[int], x: Mapping[str, Any], y: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = [_row(view, one, one.trial in best or len(found) <= NAMED) for one in found]
    rows.sort(
        key=lambda row: (ORDER.index(row["kind"]), row["trial"] in best)
    )  # the winner is drawn last, and named first
    kinds = [kind for kind in ORDER[::-1] if any(row["kind"] == kind for row in rows)]
    colors = {"winner": RED, "best single": ORANGE, "method": BLUE}
    kind = {
        "field": "kind",
        "type": "nominal",
        "legend": {"orient": "top", "title": None, "symbolOpacity": 1},
        "scale": {"domain": kinds, "range": [colors[one] for one in kinds]},
    }
    shape = {
        **kind,
        "scale": {
            "domain": kinds,
            "range": [{"winner": "diamond", "best single": "square"}.get(k, "circle") for k in kinds],
        },
    }
    interval = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 2.5},
        "encoding": {
            "x": x,
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "color": kind,
            "opacity": strength(0.35),
        },
    }
    dots = {
        "mark": {"type": "point", "filled": True, "size": 120, "tooltip": True, "cursor": "pointer"},
        "encoding": {"x": x, "y": y, "color": kind, "shape": shape, "opacity": strength(1.0)},
    }
    plot = Plot(
        "cost",
        "accuracy",
        "method",
        tuple(x["scale"]["domain"]),
        tuple(y["scale"]["domain"]),
        log=x["scale"]["type"] == "log",
    )
    words = placed(plot, [row for row in rows[::-1] if row["named"]], [row for row in rows if not row["named"]])
    names = {
        "data": {"values": words},
        "mark": {
            "type": "text",
            "align": {"expr": "datum.align"},
            "dx": {"expr": "datum.dx"},
            "dy": {"expr": "datum.dy"},
            "fontSize": FONT,
            "tooltip": True,
            "cursor": "pointer",
        },
        "encoding": {"x": x, "y": y, "text": {"field": "method"}, "opacity": strength(1.0)},
    }
    return [*({"data": {"values": rows}, **layer} for layer in (interval, dots)), names]


def _row(view: View, one: Cost, named: bool) -> dict[str, Any]:
    found = view.estimate(view.rows[one.trial], "accuracy")
    low, high = (None if end is None else 100 * end for end in (found["low"], found["high"]))
    kind = "winner" if one.trial == view.winner else "best single" if one.trial == view.single else "method"
    return {
        "trial": one.trial,
        "cost": one.cost,
        "accuracy": 100 * one.value,
        "low": low,
        "high": high,
        "kind": kind,
        "method": view.method(one.trial, 24),
        "named": named,
    }
