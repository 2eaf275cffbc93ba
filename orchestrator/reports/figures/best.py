"""The best value so far, over time and over the epochs that all trials together had spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.base.records import CAN_BE_BEST, better
from orchestrator.base.text import duration
from orchestrator.reports.data import SweepData
from orchestrator.reports.figure import CHOSEN, ORANGE, STATES, Figure, beyond, strength, value_scale


def figure(sweep: SweepData) -> Figure | None:
    """None where no trial has a value."""
    points = _points(sweep)
    best = _steps(points, sweep.mode)
    if not best:
        return None
    last, end = best[-1], points[-1]
    changes = f"{len(best)} trials were the best when they ended" if len(best) > 1 else "no later trial was better"
    text = (
        f"The line is the best {sweep.metric} of the trials that had ended. It came to {last['value']:.4g} with trial"
        f" {last['trial']}, after {duration(last['time'])} of {duration(end['time'])} and {last['spent']:,} of"
        f" {end['spent']:,} epochs; {changes}." + beyond(sweep)
    )
    panels = [
        _panel(sweep, points, best, *axis)
        for axis in (("time", "time since the sweep began (s)"), ("spent", "epochs of all trials together"))
    ]
    return Figure("best", "The best value, over time and over epochs", text, panels=panels)


def _points(sweep: SweepData) -> list[dict[str, Any]]:
    """The trials that have ended with a value, by their end, with the epochs that all trials had spent by then."""
    opened_ms = sweep.record.opened_ms
    ended = [row for row in sweep.trials if row["ended"] is not None]
    points, spent = [], 0
    for row in sorted(ended, key=lambda row: (row["ended"], row["trial"])):
        spent += row["epochs"]
        if row["value"] is not None:
            time = max(0.0, (row["ended"] - opened_ms) / 1000)
            points.append(
                {name: row[name] for name in ("trial", "value", "state")} | {"time": round(time, 2), "spent": spent}
            )
    return points


def _steps(points: Sequence[dict[str, Any]], mode: str) -> list[dict[str, Any]]:
    """The points that were better than all before them."""
    steps: list[dict[str, Any]] = []
    for point in points:
        if point["state"] in CAN_BE_BEST and better(mode, point["value"], steps[-1]["value"] if steps else None):
            steps.append(point)
    return steps


def _panel(
    sweep: SweepData, points: list[dict[str, Any]], best: list[dict[str, Any]], x: str, title: str
) -> dict[str, Any]:
    end = {**best[-1], x: points[-1][x]}
    states = [state for state in STATES if any(point["state"] == state for point in points)]
    across = {"field": x, "type": "quantitative", "title": title}
    up = {"field": "value", "type": "quantitative", "title": sweep.label, "scale": value_scale(sweep)}
    colors = {"domain": states, "range": [STATES[state] for state in states]}
    return {
        "width": "container",
        "height": 240,
        "params": [CHOSEN],
        "encoding": {"x": across, "y": up},
        "layer": [
            {
                "data": {"values": points},
                "mark": {"type": "circle", "size": 30, "tooltip": True, "cursor": "pointer"},
                "encoding": {
                    "color": {
                        "field": "state",
                        "type": "nominal",
                        "scale": colors,
                        "legend": {"orient": "top", "title": None},
                    },
                    "opacity": strength(0.8),
                },
            },
            {
                "data": {"values": [*best, end]},
                "mark": {"type": "line", "interpolate": "step-after", "color": ORANGE, "strokeWidth": 2},
            },
        ],
    }
