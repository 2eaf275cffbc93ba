"""Configurations that ran with several seeds: the mean of each with a 95 % interval, and every seed as a point."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.analysis.intervals import t_quantile
from orchestrator.journal.record import Score, SweepRecord
from orchestrator.reports.data import SweepData, cut
from orchestrator.reports.figure import BLUE, CHOSEN, GREY, ORANGE, Figure, strength
from orchestrator.reports.parts.drawing import TITLE_ABOVE

SHOWN = 30
"""Configurations, the best first."""


@dataclass(frozen=True)
class Interval:
    """A configuration with several seeds.

    Args:
        trial: the first of its trials, by which it is named.
        mean: of the seeds that count: a seed that a scheduler let pass is selected, and left out (see `journal.record.Score`).
        low, high: Student's interval of the mean; None of a single seed.
        counted, selected: trial -> value.
    """

    config_index: int
    trial: int
    mean: float
    low: float | None
    high: float | None
    counted: dict[int, float]
    selected: dict[int, float]


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean; None of fewer than two values."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def intervals(record: SweepRecord) -> list[Interval]:
    """The configurations with at least two seeds that have a value, the best mean first."""
    ranked = record.scores.ranked() if record.scores else []
    found = [_interval(score) for score in ranked if len(score.values) > 1]
    sign = -1 if record.opened.mode == "max" else 1
    return sorted(found, key=lambda one: (sign * one.mean, one.config_index))


def _interval(score: Score) -> Interval:
    counted = score.unselected
    low, high = student_interval(list(counted.values())) or (None, None)
    selected = {trial: value for trial, value in score.values.items() if trial not in counted}
    return Interval(score.config_index, min(score.trials), score.mean, low, high, counted, selected)


def figure(sweep: SweepData) -> Figure | None:
    """None where no configuration has two seeds with a value."""
    found = intervals(sweep.record)
    if not found:
        return None
    return Figure(
        name="seeds",
        title="How much does the seed matter?",
        text=_text(sweep, found),
        spec=_spec(sweep, found[:SHOWN]),
        min_width=420,
    )


def _text(sweep: SweepData, found: Sequence[Interval]) -> str:
    spreads = [statistics.stdev(one.counted.values()) for one in found if len(one.counted) > 1]
    shown = f", of which the best {SHOWN} are shown" if len(found) > SHOWN else ""
    text = f"{len(found)} configurations ran with several seeds{shown}; a bar is the 95 % interval of the mean."
    if spreads:
        spread = statistics.median(spreads)
        text += f" The standard deviation of {sweep.metric} between the seeds of one is {spread:.2g} (median)."
    best, rest = found[0], found[1:]
    if best.low is not None and best.high is not None and rest:
        low, high = best.low, best.high
        known = [(one.low, one.high) for one in rest if one.low is not None and one.high is not None]
        level = [ends for ends in known if ends[0] <= high and low <= ends[1]]
        text += f" The 95 % interval of the best mean overlaps with those of {len(level)} of the {len(rest)} others."
    elif any(one.selected for one in found):
        text += " The seed that early stopping judged is selected and not counted, so that with one more there is no interval."
    return text


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(sweep: SweepData, shown: Sequence[Interval]) -> dict[str, Any]:
    names = {row["trial"]: row["name"] for row in sweep.trials}
    rows: list[dict[str, Any]] = []
    for place, one in enumerate(shown):
        same = {"place": place, "configuration": cut(names[one.trial], 42)}
        rows.append({**same, "mean": one.mean, "low": one.low, "high": one.high, "seeds": len(one.counted)})
        for kind, values in (("counted", one.counted), ("judged by the scheduler", one.selected)):
            rows += [{**same, "trial": trial, "value": value, "seed": kind} for trial, value in values.items()]
    y = {
        "field": "place",
        "type": "ordinal",
        "title": "configuration",
        "axis": {
            "labelExpr": "configurations[datum.value]",
            "labelLimit": 260,
            **TITLE_ABOVE,
        },
    }
    x = {"type": "quantitative", "title": sweep.label, "scale": {"zero": False}, "axis": {"tickCount": 6}}
    legend = {"orient": "top", "title": None}
    kinds = [kind for kind in ("counted", "judged by the scheduler") if any(row.get("seed") == kind for row in rows)]
    return {
        "params": [CHOSEN, {"name": "configurations", "value": [cut(names[one.trial], 42) for one in shown]}],
        "data": {"values": rows},
        "width": "container",
        "height": 20 * len(shown),
        "encoding": {"y": y},
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 5, "opacity": 0.35, "color": BLUE},
                "encoding": {
                    "x": {**x, "field": "low"},
                    "x2": {"field": "high"},
                },
            },
            {
                "transform": [{"filter": "isValid(datum.mean)"}],
                "mark": {"type": "tick", "thickness": 2, "size": 14, "color": BLUE},
                "encoding": {
                    "x": {**x, "field": "mean"},
                    "tooltip": [
                        {"field": "configuration"},
                        {"field": "mean", "format": ".4~g"},
                        {"field": "low", "title": "95 % from", "format": ".4~g"},
                        {"field": "high", "title": "to", "format": ".4~g"},
                        {"field": "seeds"},
                    ],
                },
            },
            {
                "transform": [{"filter": "isValid(datum.trial)"}],
                "mark": {"type": "point", "size": 36, "tooltip": True, "cursor": "pointer"},
                "encoding": {
                    "x": {**x, "field": "value"},
                    "color": {
                        "field": "seed",
                        "type": "nominal",
                        "legend": legend if len(kinds) > 1 else None,
                        "scale": {"domain": kinds, "range": [ORANGE, GREY]},
                    },
                    "shape": {
                        "field": "seed",
                        "type": "nominal",
                        "legend": legend if len(kinds) > 1 else None,
                        "scale": {"domain": kinds, "range": ["circle", "diamond"]},
                    },
                    "opacity": strength(1.0),
                },
            },
        ],
    }
