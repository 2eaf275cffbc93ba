"""Learning curves: the objective's metric in validation and in training, and the gap between them; rungs, and what stopped there.

Written in Vega, with one path a trial: 2,000 curves as lines of Vega-Lite take seconds to draw.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator.reports.data import LARGEST, Metric, SweepData
from orchestrator.reports.figure import CHOSEN, CHOSEN_COUNT, ORANGE, RED, STRENGTH, Figure

HEIGHT = 270
BEST = 5
"""So many of the best at most are drawn in a colour of their own; one in five of a short sweep."""


def figure(sweep: SweepData) -> Figure | None:
    """None where no epoch is recorded, or none with the objective."""
    panels = _panels(sweep)
    if not panels:
        return None
    drawn = len({row["trial"] for row in sweep.epochs})
    best = _best(sweep)
    text = f"A line for each of {drawn:,} trials; the {f'{best} best are' if best > 1 else 'best one is'} in orange, on top."
    if drawn > 100:
        text += " The others are faint, so that where many run together shows; a click brings one out."
    text += " Curves far from most run out of the picture."
    stopped = Counter(row["epochs"] for row in sweep.trials if row["state"] == "stopped")
    if stopped:
        at = ", ".join(f"{count:,} at epoch {epoch}" for epoch, count in sorted(stopped.items())[:6])
        text += f" Dotted lines are rungs, dots are where trials were stopped: {at}."
    diverged = sum(row["state"] == "diverged" and row["epochs"] > 0 for row in sweep.trials)
    if diverged:
        text += f" Crosses are the last epochs of {diverged:,} trials that diverged."
    return Figure("curves", "Learning curves", text, panels=panels, min_width=460)


def _best(sweep: SweepData) -> int:
    return min(BEST, max(1, len(sweep.trials) // 5))


def _panels(sweep: SweepData) -> list[dict[str, Any]]:
    by_name = {metric.name: metric for metric in sweep.metrics}
    found = by_name.get(sweep.metric)
    if found is None:
        return []
    panels = [_panel(sweep, f"datum.{found.field}", found.label)]
    kind, _, last = sweep.metric.partition("/")
    trained = by_name.get(f"{'val' if kind == 'train' else 'train'}/{last}")
    if trained is not None:
        panels.append(_panel(sweep, f"datum.{trained.field}", trained.label))
        both = (trained, found) if kind == "val" else (found, trained)
        panels.append(_panel(sweep, _gap(*both), f"gap of {last}: training less validation", zero=True))
    for other in ("val/loss", "val/accuracy"):
        if other in by_name and other != sweep.metric and len(panels) in (1, 3):
            panels.append(_panel(sweep, f"datum.{by_name[other].field}", by_name[other].label))
    return panels


def _gap(trained: Metric, validated: Metric) -> str:
    a, b = f"datum.{trained.field}", f"datum.{validated.field}"
    return f"{a} == null || {b} == null ? null : {a} - {b}"


def _panel(sweep: SweepData, expression: str, title: str, *, zero: bool = False) -> dict[str, Any]:
    last = max(row["epoch"] for row in sweep.epochs)
    epochs = {"signal": f"min({max(last - 1, 1)}, ceil(width / 60))"}
    axis = {"labelOverlap": True, "titlePadding": 6}
    return {
        "$schema": "https://vega.github.io/schema/vega/v6.json",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 5,
        "height": HEIGHT,
        "signals": [CHOSEN, CHOSEN_COUNT, _range()],
        "data": _data(expression, _best(sweep)),
        "scales": [
            {"name": "x", "type": "linear", "domain": [min(1, last - 1), last], "range": "width", "zero": False},
            {
                "name": "y",
                "type": "linear",
                "domain": {"signal": "ends"},
                "range": "height",
                "zero": zero,
                "nice": True,
            },
        ],
        "axes": [
            {"scale": "y", "orient": "left", "grid": True, "title": title, "tickCount": 6, **axis},
            {"scale": "x", "orient": "bottom", "title": "epoch", "format": "d", "tickCount": epochs, **axis},
        ],
        "marks": [
            {
                "type": "group",
                "clip": True,
                "encode": {"update": {"width": {"signal": "width"}, "height": {"signal": "height"}}},
                "marks": [*_rungs(sweep, last), _lines(len(sweep.trials))],
            },
            *_ends(),
        ],
    }


def _range() -> dict[str, Any]:
    """Of the axis: a loss that exploded is cut off, where it would press all others into one line.

    The later half of the best curves stays, however few they are among trials that learned nothing.
    """
    most, best = "data('range')[0]", "data('bestRange')[0]"
    low = f"{best} && {best}.count ? min({most}.low, {best}.least) : {most}.low"
    high = f"{best} && {best}.count ? max({most}.high, {best}.most) : {most}.high"
    return {"name": "ends", "update": f"{most} ? [max({low}, -{LARGEST}), min({high}, {LARGEST})] : [0, 1]"}


def _data(expression: str, best: int) -> list[dict[str, Any]]:
    high = "datum.q3 + 4 * (datum.q3 - datum.q1) > 0 && datum.most > datum.q3 + 4 * (datum.q3 - datum.q1)"
    low = "datum.least < datum.q1 - 4 * (datum.q3 - datum.q1)"
    at = "round(scale('x', datum.epoch) * 10) / 10 + ',' + round(clamp(scale('y', datum.y), -1e5, 1e5) * 10) / 10"
    return [
        {"name": "trials"},
        {
            "name": "epochs",
        },
        {
            "name": "points",
            "source": "epochs",
            "transform": [
                {"type": "formula", "as": "y", "expr": expression},
                {"type": "filter", "expr": "datum.y != null"},
                {"type": "formula", "as": "y", "expr": f"clamp(datum.y, -{LARGEST}, {LARGEST})"},
            ],
        },
        {
            "name": "range",
            "source": "points",
            "transform": [
                {
                    "type": "aggregate",
                    "ops": ["min", "q1", "q3", "max"],
                    "fields": ["y"] * 4,
                    "as": ["least", "q1", "q3", "most"],
                },
                {
                    "type": "formula",
                    "as": "high",
                    "expr": f"{high} ? datum.q3 + 4 * (datum.q3 - datum.q1) : datum.most",
                },
                {"type": "formula", "as": "low", "expr": f"{low} ? datum.q1 - 4 * (datum.q3 - datum.q1) : datum.least"},
            ],
        },
        {
            "name": "bestRange",
            "source": "points",
            "transform": [
                {"type": "lookup", "from": "trials", "key": "trial", "fields": ["trial"], "values": ["rank", "epochs"]},
                {
                    "type": "filter",
                    "expr": "datum.rank === 1 && 2 * datum.epoch >= datum.epochs",
                },
                {
                    "type": "aggregate",
                    "ops": ["min", "max", "count"],
                    "fields": ["y"] * 3,
                    "as": ["least", "most", "count"],
                },
            ],
        },
        {
            "name": "lines",
            "source": "points",
            "transform": [
                {"type": "formula", "as": "at", "expr": at},
                {
                    "type": "aggregate",
                    "groupby": ["trial"],
                    "ops": ["values", "count", "max"],
                    "fields": ["at", "at", "epoch"],
                    "as": ["rows", "count", "last"],
                },
                {"type": "formula", "as": "path", "expr": "'M' + join(pluck(datum.rows, 'at'), 'L')"},
                {"type": "formula", "as": "end", "expr": "datum.rows[length(datum.rows) - 1]"},
                {"type": "lookup", "from": "trials", "key": "trial", "fields": ["trial"], "values": ["rank", "state"]},
                {"type": "formula", "as": "order", "expr": "datum.rank == null ? 1e9 : datum.rank"},
                {"type": "window", "sort": {"field": ["order", "trial"]}, "ops": ["row_number"], "as": ["place"]},
                {"type": "formula", "as": "best", "expr": f"datum.rank != null && datum.place <= {best}"},
                {
                    "type": "formula",
                    "as": "front",
                    "expr": "chosen === null ? datum.best : chosen[datum.trial] ? 1 : 0",
                },
                {"type": "collect", "sort": {"field": ["front", "rank"], "order": ["ascending", "descending"]}},
            ],
        },
    ]


def _lines(count: int) -> dict[str, Any]:
    full = 0.8 if count <= 30 else 0.4 if count <= 200 else 0.12
    faint = 0.06 if count <= 200 else 0.02
    opacity = f"chosen === null ? (datum.best ? 1 : {full}) : chosen[datum.trial] ? {STRENGTH} : {faint}"
    return {
        "type": "path",
        "from": {"data": "lines"},
        "encode": {
            "update": {
                "path": {"field": "path"},
                "stroke": {"signal": f"datum.best ? '{ORANGE}' : inkLine"},
                "strokeWidth": {"signal": "datum.best ? 2 : 1.3"},
                "strokeOpacity": {"signal": opacity},
                "cursor": {"value": "pointer"},
                "tooltip": {"value": True},
            },
            "hover": {"strokeOpacity": {"value": 1}, "strokeWidth": {"value": 3}},
        },
    }


def _ends() -> list[dict[str, Any]]:
    """Where trials were stopped or diverged."""
    shapes = {"stopped": ("circle", "inkLine", 14), "diverged": ("cross", f"'{RED}'", 40)}
    return [
        {
            "type": "symbol",
            "clip": True,
            "from": {"data": "lines"},
            "encode": {
                "update": {
                    "x": {"scale": "x", "field": "end.epoch"},
                    "y": {"scale": "y", "field": "end.y"},
                    "shape": {"value": shape},
                    "size": {"signal": f"datum.state === '{state}' ? {size} : 0"},
                    "fill": {"signal": color},
                    "opacity": {"signal": "chosen === null ? 0.6 : chosen[datum.trial] ? 1 : 0.04"},
                    "tooltip": {"value": True},
                }
            },
        }
        for state, (shape, color, size) in shapes.items()
    ]


def _rungs(sweep: SweepData, last: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "rule",
            "interactive": False,
            "encode": {
                "update": {
                    "x": {"scale": "x", "value": rung},
                    "y": {"value": 0},
                    "y2": {"signal": "height"},
                    "stroke": {"signal": "inkSoft"},
                    "strokeDash": {"value": [2, 3]},
                }
            },
        }
        for rung in sweep.rungs
        if rung < last
    ]
