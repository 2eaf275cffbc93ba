"""What accuracy cost: seconds of computing against the objective, and the trials that no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.base.costs import trial_multiply_adds
from orchestrator.base.recorded import read_plan
from orchestrator.base.text import short
from orchestrator.reports.data import SweepData
from orchestrator.reports.figure import CHOSEN, RED, STATES, Figure, beyond, strength, value_scale
from orchestrator.reports.parts.lanes import attempts
from orchestrator.reports.parts.units import duration

FEWEST = 3
WIDE = 20
"""From this ratio of the dearest to the cheapest on, the axis is logarithmic."""

CROWD = 300
"""Trials above which points are smaller and fainter."""

LABELS = {
    "seconds": "computing time (s)",
    "multiply_adds": "multiply-adds of training, forward",
    "epochs": "epochs trained",
}
SHAPES = {"completed": "circle", "stopped": "triangle-down", "cancelled": "square"}
"""Of the states of trials that can be the best."""


@dataclass(frozen=True)
class Cost:
    """A trial with a value: what it took."""

    trial: int
    cost: float
    value: float


def frontier(costs: Sequence[Cost], sign: int) -> list[Cost]:
    """The trials of which no other is as good at less cost, or better at no more, the cheapest first; of equal ones the first.

    Args:
        sign: 1 where a higher value is better, else -1.
    """
    best: list[Cost] = []
    for one in sorted(costs, key=lambda one: (one.cost, -sign * one.value, one.trial)):
        if not best or sign * one.value > sign * best[-1].value:
            best.append(one)
    return best


def costs(sweep: SweepData) -> dict[str, list[Cost]]:
    """Of each measure that the journal holds, the trials that can be the best: seconds, and multiply-adds or else epochs.

    The seconds are those of all attempts, without the waiting between them.
    """
    seconds: dict[int, float] = {}
    for one in attempts(sweep.record):
        seconds[one.trial] = seconds.get(one.trial, 0.0) + (one.ended - one.began) / 1000
    valued = [row for row in sweep.trials if row["rank"] is not None]
    found = {
        "seconds": [
            Cost(row["trial"], seconds[row["trial"]], row["value"]) for row in valued if seconds.get(row["trial"])
        ],
        "epochs": [Cost(row["trial"], float(row["epochs"]), row["value"]) for row in valued if row["epochs"]],
    }
    if (adds := _multiply_adds(sweep, valued)) and len({row["epochs"] for row in valued}) < len(
        {one.cost for one in adds}
    ):
        found = {"seconds": found["seconds"], "multiply_adds": adds}  # else the epochs say the same
    return {name: rows for name, rows in found.items() if len({one.cost for one in rows}) > 1}


def _multiply_adds(sweep: SweepData, valued: Sequence[Mapping[str, Any]]) -> list[Cost]:
    """Of the trials with a value; none where the plan does not say them of all."""
    facts = _facts(sweep)
    adds = {
        row["trial"]: trial_multiply_adds(facts, sweep.record.trials[row["trial"]].config, row["epochs"])
        for row in valued
    }
    if not all(adds.values()):
        return []
    return [Cost(row["trial"], float(adds[row["trial"]] or 0), row["value"]) for row in valued]


def _facts(sweep: SweepData) -> Mapping[str, Any]:
    try:
        facts = read_plan(sweep.record.plan).get("facts")
    except ValueError:
        return {}
    return facts if isinstance(facts, Mapping) else {}


def figure(sweep: SweepData) -> Figure | None:
    """None with fewer than three trials that have a value, or where all cost the same."""
    found = {name: rows for name, rows in costs(sweep).items() if len(rows) >= FEWEST}
    if "seconds" not in found:
        return None
    front = frontier(found["seconds"], sweep.sign)
    cheap, best = front[0], front[-1]
    return Figure(
        name="cost",
        title="What did a better value cost?",
        text=(
            f"The best single trial, {best.trial}, took {duration(best.cost)} for {best.value:.4g}; of "
            f"{len(found['seconds']):,} trials {len(front)} {'are' if len(front) > 1 else 'is'} beaten by no other in both cost "
            f"and value, the cheapest in {duration(cheap.cost)} with {cheap.value:.4g}.{_of_work(found)}{beyond(sweep)}"
        ),
        panels=[_spec(sweep, name, rows) for name, rows in found.items()],
    )


def _of_work(found: Mapping[str, Sequence[Cost]]) -> str:
    """A sentence about multiply-adds, with a space before it; a training step takes about three times its forward ones."""
    if "multiply_adds" not in found:
        return ""
    amounts = [one.cost for one in found["multiply_adds"]]
    return f" In multiply-adds the trials took {short(min(amounts))} to {short(max(amounts))}, forward, of all training images."


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(sweep: SweepData, name: str, found: Sequence[Cost]) -> dict[str, Any]:
    lowest, highest = (end(one.cost for one in found) for end in (min, max))
    kind = "log" if highest > WIDE * lowest else "linear"
    x = {
        "field": "cost",
        "type": "quantitative",
        "title": LABELS[name],
        "scale": {"type": kind, "nice": False, "padding": 12} | ({} if kind == "log" else {"zero": False}),
    }
    y = {"field": "value", "type": "quantitative", "title": sweep.label, "scale": value_scale(sweep)}
    return {
        "params": [CHOSEN],
        "width": "container",
        "height": 260,
        "layer": [_trials(sweep, found, x, y), *_frontier(frontier(found, sweep.sign), x, y)],
    }


def _trials(sweep: SweepData, found: Sequence[Cost], x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    many = len(sweep.trials) > CROWD
    shown = {row["state"] for row in sweep.trials if row["rank"] is not None}
    states = [state for state in SHAPES if state in shown]
    state = {"field": "state", "type": "nominal", "legend": {"orient": "top", "title": None, "symbolOpacity": 1}}
    costs = [{"trial": one.trial, "cost": round(one.cost, 3)} for one in found]
    return {
        "data": {"values": costs},
        "transform": [
            {"lookup": "trial", "from": {"data": {"name": "trials"}, "key": "trial", "fields": ["value", "state"]}}
        ],
        "mark": {"type": "point", "filled": True, "size": 18 if many else 45, "tooltip": True, "cursor": "pointer"},
        "encoding": {
            "x": x,
            "y": y,
            "color": {**state, "scale": {"domain": states, "range": [STATES[one] for one in states]}},
            "shape": {**state, "scale": {"domain": states, "range": [SHAPES[one] for one in states]}},
            "opacity": strength(0.45 if many else 0.8),
        },
    }


def _frontier(front: Sequence[Cost], x: Mapping[str, Any], y: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line along the trials that no other beats, and a ring around each."""
    rows = [{"trial": one.trial, "cost": round(one.cost, 3), "value": one.value} for one in front]
    line = {"type": "line", "interpolate": "step-after", "color": RED, "strokeWidth": 1.5}
    ring = {"type": "point", "filled": False, "size": 110, "color": RED, "strokeWidth": 1.5, "tooltip": None}
    return [{"data": {"values": rows}, "mark": mark, "encoding": {"x": x, "y": y}} for mark in (line, ring)]
