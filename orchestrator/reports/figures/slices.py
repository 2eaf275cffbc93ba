"""Slices: the objective over each searched key, a point for each trial; what diverged stands as ticks below."""

from __future__ import annotations

from typing import Any

from orchestrator.base.text import word
from orchestrator.reports.data import Key, SweepData
from orchestrator.reports.figure import (
    BLUE,
    CHOSEN,
    IS_CHOSEN,
    ORANGE,
    RED,
    SKY,
    Figure,
    beyond,
    strength,
    ticks,
    value_scale,
)

HEIGHT = 200
MOST = 24
"""Keys that have a panel; of more, the first of the space."""


def figure(sweep: SweepData) -> Figure | None:
    """None where nothing was searched, or no trial has a value."""
    valued = [row for row in sweep.trials if row["value"] is not None]
    if not sweep.keys or not valued:
        return None
    best = min(valued, key=lambda row: (row["rank"] is None, row["rank"] or 0, row["trial"]))
    params = sweep.record.trials[best["trial"]].params
    at = ", ".join(f"{key.name} {word(params[key.name])}" for key in sweep.keys[:6] if key.name in params)
    text = f"A point for each trial with a value; the best single trial, {best['trial']}, is in orange: {at}."
    if any(key.kind == "choice" for key in sweep.keys):
        text += " The bar at a choice is its median."
    without = sum(row["state"] == "diverged" for row in sweep.trials)
    if without:
        text += f" Ticks at the bottom are the {without:,} trials that diverged."
    text += beyond(sweep)
    if len(sweep.keys) > MOST:
        text += f" Shown are {MOST} of {len(sweep.keys)} keys."
    return Figure(
        "slices", f"{sweep.metric} over each key", text, panels=[_panel(sweep, key) for key in sweep.keys[:MOST]]
    )


def _panel(sweep: SweepData, key: Key) -> dict[str, Any]:
    up = {"field": "value", "type": "quantitative", "title": sweep.label, "scale": value_scale(sweep)}
    best = {"test": "datum.rank === 1", "value": ORANGE}
    plain = strength(0.8 if len(sweep.trials) <= 200 else 0.35)
    seen = {"test": f"datum.rank === 1 && {IS_CHOSEN}", "value": 1}
    point: dict[str, Any] = {
        "transform": [{"filter": f"datum.value != null && datum.{key.field} != null"}],
        "mark": {"type": "circle", "tooltip": True, "cursor": "pointer"},
        "encoding": {
            "y": up,
            "color": {"condition": [best, {"test": "datum.state === 'stopped'", "value": SKY}], "value": BLUE},
            "size": {"condition": {"test": "datum.rank === 1", "value": 110}, "value": 24},
            "opacity": {**plain, "condition": [seen, plain["condition"]]},
        },
    }
    lost: dict[str, Any] = {
        "transform": [{"filter": f"datum.state === 'diverged' && datum.{key.field} != null"}],
        "mark": {
            "type": "tick",
            "orient": "vertical",
            "tooltip": True,
            "cursor": "pointer",
            "size": 8,
            "thickness": 1.2,
        },
        "encoding": {"y": {"value": HEIGHT - 4}, "color": {"value": RED}, "opacity": strength(0.5)},
    }
    x = _number(key) if key.kind == "number" else _choice(key)
    layers = [point, lost]
    if key.kind == "choice":
        point["encoding"]["xOffset"] = lost["encoding"]["xOffset"] = {"field": "spread", "type": "quantitative"}
        layers.append(_median(key, up))
    return {
        "width": "container",
        "height": HEIGHT,
        "params": [CHOSEN],
        "data": {"name": "trials"},
        "transform": [{"calculate": "(datum.trial * 0.618034) % 1", "as": "spread"}],
        "encoding": {"x": x},
        "layer": layers,
    }


def _number(key: Key) -> dict[str, Any]:
    low, high = key.values
    scale: dict[str, Any] = (
        {"type": "log", "nice": False} if key.log else {"type": "linear", "zero": False, "nice": False}
    )
    if low < high:
        scale |= {"domain": [low, high], "clamp": True}
    return {"field": key.field, "type": "quantitative", "title": key.label, "scale": scale, "axis": ticks(key)}


def _choice(key: Key) -> dict[str, Any]:
    angle = 0 if len(key.values) <= 5 and max(map(len, key.values)) <= 12 else -35
    axis = {"labelAngle": angle, "labelLimit": 110}
    scale = {"domain": list(key.values), "paddingInner": 0.3, "paddingOuter": 0.15}
    return {"field": key.field, "type": "nominal", "title": key.label, "sort": None, "scale": scale, "axis": axis}


def _median(key: Key, up: dict[str, Any]) -> dict[str, Any]:
    """Of those trials of a choice that are chosen."""
    shown = f"datum.value != null && datum.{key.field} != null && (chosen === null || chosen[datum.trial])"
    return {
        "transform": [
            {"filter": shown},
            {"aggregate": [{"op": "median", "field": "value", "as": "median"}], "groupby": [key.field]},
        ],
        "mark": {"type": "tick", "thickness": 3, "color": {"expr": "inkText"}, "bandSize": 34},
        "encoding": {
            "x": {**_choice(key), "bandPosition": 0.5},
            "xOffset": {"datum": 0.5, "type": "quantitative"},  # the points' scale, of which it is the middle
            "y": {**up, "field": "median"},
        },
    }
