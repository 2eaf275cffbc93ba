"""How wide a range of a learning rate or a weight scale trains: the best value over it, with one line a normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.journal.record import is_number
from orchestrator.reports.data import Key, SweepData
from orchestrator.reports.figure import CHOSEN, PALETTE, Figure, beyond, strength, ticks, value_scale
from orchestrator.reports.parts.chance import chance_of, facts, vanished
from orchestrator.reports.parts.drawing import shares
from orchestrator.reports.parts.plateaus import A_BIN, FEWEST, Bin, Plateau, Point, binned, edges_of, limit_of, plateau

CROWD = 300
"""Trials above which points are smaller and fainter."""

CROSS = "M-1,-1L1,1M1,-1L-1,1"
LINES = len(PALETTE)
SHOWN = 6
"""Numbers that have a panel."""

ALL = "all trials"


def figure(sweep: SweepData) -> Figure | None:
    """None without a number that was searched by factors, or with fewer than `FEWEST` trials that have one and a value."""
    panels = [panel for key in sweep.keys if key.kind == "number" and key.log and (panel := _panel(sweep, key))]
    if not panels:
        return None
    return Figure(
        name="plateau",
        title="How wide is the range that trains?",
        text=" ".join([*(panel.words for panel in panels[:2]), _legend(panels)]) + beyond(sweep),
        panels=[_spec(sweep, panel) for panel in panels[:SHOWN]],
    )


def _legend(panels: Sequence[_Panel]) -> str:
    dashed = ", dashed their median" if any(panel.has_medians for panel in panels) else ""
    return f"Lines are the best of the trials nearby{dashed}; crosses diverged."


@dataclass(frozen=True)
class _Panel:
    """A searched number: of each line its bins, and the plateau where there is one.

    Args:
        line: the key that gives the lines; None where there is one line of all trials.
    """

    key: Key
    line: Key | None
    bins: Mapping[str, Sequence[Bin]]
    plateaus: Mapping[str, Plateau]

    @property
    def has_medians(self) -> bool:
        """Whether the bins have enough trials for a median."""
        every = [one for bins in self.bins.values() for one in bins]
        return sum(len(one.points) for one in every) >= A_BIN * len(every)

    @property
    def words(self) -> str:
        """The plateaus in a sentence; the widest first."""
        found = sorted(self.plateaus.items(), key=lambda item: -item[1].decades)
        if not found:
            return f"Over {self.key.name} no line has enough trials for the width of a plateau."
        parts = [f"{line} {plateau.words} ({plateau.ends})" for line, plateau in found[:4]]
        of_line = f", by {self.line.name}" if self.line else ""
        return f"Within a fifth of its best, {self.key.name} can be chosen over{of_line}: {'; '.join(parts)}."


def _panel(sweep: SweepData, key: Key) -> _Panel | None:
    line = _line_key(sweep, key)
    points: dict[str, list[Point]] = {text: [] for text in (line.values if line else (ALL,))}
    for trial in sweep.record.trials.values():
        x, text = key.of(trial.params), line.of(trial.params) if line else ALL
        diverged = trial.state == "diverged"
        if is_number(x) and x > 0 and text in points and (diverged or is_number(trial.value)):
            points[text].append(Point(trial.index, x, None if diverged else trial.value))
    points = {text: found for text, found in points.items() if found}
    every = [point for found in points.values() for point in found]
    if sum(point.value is not None for point in every) < FEWEST or len({point.x for point in every}) < 2:
        return None
    alone = len(sweep.keys) == 1 + (line is not None)
    edges = edges_of(every, len(points), alone=alone)
    bins = {text: binned(found, edges, sweep.sign) for text, found in points.items()}
    return _Panel(
        key,
        line,
        bins,
        {text: one for text, found in bins.items() if (one := _plateau(sweep, found, bridged=edges is not None))},
    )


def _plateau(sweep: SweepData, bins: Sequence[Bin], *, bridged: bool) -> Plateau | None:
    """The plateau of a line that has at least `FEWEST` bins and a trial that learned something."""
    values = [bin.best for bin in bins if bin.best is not None]
    if len(bins) < FEWEST or not values:
        return None
    best = max(values, key=lambda value: sweep.sign * value)
    classes = facts(sweep.record).get("num_classes")
    limit = limit_of(best, sweep.metric, classes if isinstance(classes, int) else None)
    if limit is None or vanished(best, chance_of(sweep.record), sweep.mode):
        return None
    return plateau(bins, limit, sweep.sign, bridged=bridged)


def _line_key(sweep: SweepData, key: Key) -> Key | None:
    """The normalization where it is searched; else the choice that matters most; None where there is no choice."""
    choices = [other for other in sweep.keys if other.kind == "choice" and 1 < len(other.values) <= LINES]
    if norm := next((other for other in choices if other.name == "norm"), None):
        return norm
    if len(choices) < 2:
        return next(iter(choices), None)
    matter = shares(sweep)
    return max(choices, key=lambda other: matter.get(other.name, 0.0))


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(sweep: SweepData, panel: _Panel) -> dict[str, Any]:
    lines = list(panel.bins)
    colors = dict(zip(panel.line.values if panel.line else lines, PALETTE, strict=False))
    legend = {"orient": "bottom", "title": None, "labelLimit": 120, "symbolOpacity": 1}
    shared: dict[str, Any] = {
        "x": {
            "field": "x",
            "type": "quantitative",
            "title": panel.key.label,
            "scale": {"type": "log", "nice": False, "domain": list(panel.key.values)},
            "axis": ticks(panel.key),
        },
        "color": {
            "field": "line",
            "type": "nominal",
            "scale": {"domain": lines, "range": [colors[line] for line in lines]},
            "legend": legend if len(lines) > 1 else None,
        },
    }
    y = {"type": "quantitative", "title": sweep.label, "scale": value_scale(sweep)}
    return {
        "params": [CHOSEN],
        "width": "container",
        "height": 280,
        "layer": [*_trials(sweep, panel, shared, y), *_curves(panel, shared, y), *_widths(panel, shared)],
    }


def _trials(sweep: SweepData, panel: _Panel, shared: Mapping[str, Any], y: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A point for each trial; a cross at the bottom for one that diverged."""
    many = len(sweep.trials) > CROWD
    place = [
        {"filter": f"isValid(datum.{panel.key.field}) && datum.{panel.key.field} > 0"},
        {"calculate": f"datum.{panel.key.field}", "as": "x"},
        {"calculate": f"datum.{panel.line.field}" if panel.line else f"'{ALL}'", "as": "line"},
        {"filter": "isValid(datum.line)"},
    ]
    point = {"type": "point", "tooltip": True, "cursor": "pointer"}
    look = {"x": shared["x"], "color": shared["color"], "opacity": strength(0.35 if many else 0.7)}
    cross = {"shape": CROSS, "filled": False, "size": 30, "strokeWidth": 1.5, "y": {"expr": "height - 5"}}
    return [
        {
            "data": {"name": "trials"},
            "transform": [*place, {"filter": "isValid(datum.value) && datum.state !== 'diverged'"}],
            "mark": {**point, "filled": True, "size": 14 if many else 36},
            "encoding": {**look, "y": {**y, "field": "value"}},
        },
        {
            "data": {"name": "trials"},
            "transform": [*place, {"filter": "datum.state === 'diverged'"}],
            "mark": {**point, **cross},
            "encoding": look,
        },
    ]


def _curves(panel: _Panel, shared: Mapping[str, Any], y: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The best of each bin, and the median where bins have enough trials for one."""
    rows = [
        {"line": line, "x": one.x, "best": one.best, "median": one.median}
        for line, bins in panel.bins.items()
        for one in bins
    ]
    return [
        {
            "data": {"values": rows},
            "transform": [{"filter": f"isValid(datum.{field})"}],
            "mark": {"type": "line", "strokeWidth": width, "strokeDash": dash, "opacity": opacity, "tooltip": None},
            "encoding": {**shared, "y": {**y, "field": field}},
        }
        for field, width, dash, opacity in [("best", 2.5, [1, 0], 1), ("median", 1, [4, 3], 0.5)]
        if field == "best" or panel.has_medians
    ]


def _widths(panel: _Panel, shared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Above the plot, the plateau of each line as a bar with its width in decades."""
    middle = math.sqrt(panel.key.values[0]) * math.sqrt(panel.key.values[1])
    rows = [
        {
            "line": line,
            "low": one.low,
            "high": one.high,
            "left": math.sqrt(one.low) * math.sqrt(one.high) > middle,  # there is more room for the text
            "words": f"{line}: {one.words}",
            "place": place,
        }
        for place, (line, one) in enumerate(panel.plateaus.items())
    ]
    y = {"expr": "-12 - 15 * datum.place"}
    low, high = {**shared["x"], "field": "low"}, {**shared["x"], "field": "high"}
    text = {"type": "text", "y": y}
    return [
        {
            "data": {"values": rows},
            "mark": {"type": "rule", "strokeWidth": 5, "strokeCap": "round", "y": y},
            "encoding": {"x": low, "x2": {"field": "high"}, "color": shared["color"]},
        },
        {
            "data": {"values": rows},
            "transform": [{"filter": "!datum.left"}],
            "mark": {**text, "align": "left", "dx": 8},
            "encoding": {"x": high, "text": {"field": "words"}},
        },
        {
            "data": {"values": rows},
            "transform": [{"filter": "datum.left"}],
            "mark": {**text, "align": "right", "dx": -8},
            "encoding": {"x": low, "text": {"field": "words"}},
        },
    ]
