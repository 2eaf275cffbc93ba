"""Parallel coordinates: a line for each trial through its values and the objective, with a brush on every axis.

Written in Vega: Vega-Lite has no brush for each axis. A trial is one path, made of the places of its values; a key that a trial
does not have has a place of its own below the axis.
"""

from __future__ import annotations

from typing import Any

from orchestrator.reports.data import Key, SweepData, within
from orchestrator.reports.figure import CHOSEN, CHOSEN_COUNT, IS_CHOSEN, ORANGE, STRENGTH, Figure, ticks

HEIGHT = 330
BELOW = 36
"""From the end of an axis to the place of the trials that have no value there."""

WIDTH_OF_AXIS = 105
HALF_BRUSH = 14
SPREAD = 0.55
"""The share of a choice's room over which its trials are spread."""

HALO = {
    "stroke": {"signal": "inkBack"},
    "fill": {"signal": "inkBack"},
    "strokeWidth": {"value": 4},
    "strokeJoin": {"value": "round"},
}
"""Labels stand on lines: they are drawn twice, first in the colour of the page."""

CLICK = 4
"""A brush of fewer pixels is a click: it takes a whole value of a choice, or clears the axis."""


def figure(sweep: SweepData) -> Figure | None:
    """None where nothing was searched, or there is no trial."""
    if not sweep.keys or not sweep.trials:
        return None
    axes = [*sweep.keys, _objective(sweep)]
    without = sum(row["value"] is None for row in sweep.trials)
    text = (
        "Each line is a trial; its colour tells its rank. Drag along an axis to choose those that pass there, along several to"
        " choose those that pass through all; a click on a value of a choice takes that value, Escape clears."
    )
    if without:
        text += f" {without:,} of {len(sweep.trials):,} trials have no value: they end at “none”."
    return Figure(
        "parallel",
        "All trials: what they tried, and what it gave",
        text,
        spec=_spec(sweep, axes),
        min_width=WIDTH_OF_AXIS * len(axes) + 60,
    )


def _objective(sweep: SweepData) -> Key:
    values = [within(row["value"]) for row in sweep.trials if row["value"] is not None]
    ends = (min(values), max(values)) if values else (0.0, 1.0)
    return Key(sweep.metric, "value", "number", False, "", ends, conditional=len(values) < len(sweep.trials))


def _spec(sweep: SweepData, axes: list[Key]) -> dict[str, Any]:
    places = range(len(axes))
    ranks = [row["rank"] for row in sweep.trials if row["rank"] is not None]
    points = " + 'L' + ".join(f"(xs[{place}] + ',' + datum.y{place})" for place in places)
    inside = " && ".join(
        f"(!brush{place} || inrange(datum.y{place}, [brush{place}[0] - 0.5, brush{place}[1] + 0.5]))"
        for place in places
    )
    return {
        "$schema": "https://vega.github.io/schema/vega/v6.json",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 10, "right": 40, "top": 5, "bottom": 5},
        "height": HEIGHT + BELOW,
        "data": [
            {
                "name": "trials",
            },
            {
                "name": "lines",
                "source": "trials",
                "transform": [
                    *(
                        {"type": "formula", "as": f"y{place}", "expr": _place(axis, place)}
                        for place, axis in enumerate(axes)
                    ),
                    {"type": "formula", "as": "path", "expr": f"'M' + {points}"},
                ],
            },
            {"name": "inside", "source": "lines", "transform": [{"type": "filter", "expr": inside}]},
            {
                "name": "drawn",
                "source": "lines",
                "transform": [
                    {"type": "formula", "as": "front", "expr": f"{IS_CHOSEN} ? 1 : 0"},
                    {"type": "collect", "sort": {"field": ["front", "rank"], "order": ["ascending", "descending"]}},
                ],
            },
        ],
        "signals": _signals(axes),
        "scales": [
            *(_scale(axis, place) for place, axis in enumerate(axes)),
            {
                "name": "color",
                "type": "linear",
                "domain": [max(ranks, default=2), 1],
                "zero": False,
                "range": "ramp",
            },
        ],
        "marks": [_lines(len(sweep.trials)), *(_axis(axis, place) for place, axis in enumerate(axes))],
    }


def _place(axis: Key, place: int) -> str:
    """The expression of a trial's height on an axis; within a value of a choice, trials are spread by their numbers."""
    spread = f"((datum.trial * 0.618034) % 1 - 0.5) * {_step(axis) * SPREAD if axis.kind == 'choice' else 0}"
    none = f"{HEIGHT + BELOW - 8} + ((datum.trial * 0.618034) % 1 - 0.5) * 12"
    return f"datum.{axis.field} == null ? {none} : scale('y{place}', datum.{axis.field}) + {spread}"


def _step(axis: Key) -> float:
    """Pixels for each value of a choice."""
    return HEIGHT / max(len(axis.values), 1)


def _scale(axis: Key, place: int) -> dict[str, Any]:
    if axis.kind == "choice":
        ends = [HEIGHT, 0] if axis.is_ordered else [0, HEIGHT]
        return {"name": f"y{place}", "type": "point", "domain": list(axis.values), "range": ends, "padding": 0.5}
    low, high = axis.values
    if low == high:
        low, high = (low / 2, high * 2) if axis.log else (low - abs(low) / 2 - 0.5, high + abs(high) / 2 + 0.5)
    return {
        "name": f"y{place}",
        "type": "log" if axis.log else "linear",
        "domain": [low, high],
        "range": [HEIGHT, 0],
        "zero": False,
        "clamp": True,
    }


def _signals(axes: list[Key]) -> list[dict[str, Any]]:
    places = range(len(axes))
    brushed = " || ".join(f"brush{place}" for place in places)
    said = " + ".join(f"(brush{place} ? said{place} + '; ' : '')" for place in places)
    last = len(axes) - 1
    return [
        CHOSEN,
        CHOSEN_COUNT,
        {"name": "cleared", "value": 0},
        {"name": "names", "value": [axis.label for axis in axes]},
        {"name": "xs", "update": f"[{', '.join(f'round({place} * width / {max(last, 1)})' for place in places)}]"},
        {"name": "held", "value": -1, "on": _holds(places)},
        *(signal for place, axis in enumerate(axes) for signal in _brush(axis, place)),
        {"name": "picked", "update": f"({brushed}) ? pluck(data('inside'), 'trial') : null"},
        {"name": "picked_as", "update": f"slice({said}, 0, -2)"},
    ]


def _holds(places: range) -> list[dict[str, Any]]:
    """The axis along which the pointer is dragged; -1 where none is."""
    down = [{"events": f"@area{place}:pointerdown", "update": str(place)} for place in places]
    return [*down, {"events": "window:pointerup", "update": "-1"}]


def _brush(axis: Key, place: int) -> list[dict[str, Any]]:
    """Its two ends in pixels from the top, the upper one first, or null; and what it holds in words."""
    name, bottom = f"brush{place}", HEIGHT + BELOW
    end = f"clamp(y(), 0, {bottom})"
    step = _step(axis)
    top, low = f"min(from{place}, {end})", f"max(from{place}, {end})"
    if axis.kind == "choice":  # whole values
        top, low = f"floor({top} / {step}) * {step} + 1", f"min(ceil(({low} + 0.1) / {step}) * {step} - 1, {bottom})"
        top, low = f"min({top}, {HEIGHT + 1})", f"({low} > {HEIGHT} ? {bottom} : {low})"
    click = f"{end} > {HEIGHT + 8} ? [{HEIGHT + 10}, {bottom}] : " + (
        f"[{top}, {low}]" if axis.kind == "choice" else "null"
    )
    ended = f"held === {place} ? ({name} && {low} - {top} < {CLICK} ? ({click}) : {name}) : {name}"
    down = f"@area{place}:pointerdown"
    return [
        {
            "name": f"from{place}",
            "value": 0,
            "on": [{"events": down, "update": end}],
        },
        {
            "name": name,
            "value": None,
            "on": [
                {"events": down, "update": f"[{top}, {low}]"},
                {
                    "events": "window:pointermove",
                    "update": f"held === {place} ? [{top}, {low}] : {name}",
                },
                {"events": "window:pointerup", "update": ended},
                {"events": {"signal": "cleared"}, "update": "null"},
            ],
        },
        {"name": f"said{place}", "update": f"{name} ? names[{place}] + ' ' + ({_said(axis, place)}) : ''"},
    ]


def _said(axis: Key, place: int) -> str:
    """The expression of the values in a brush, in words."""
    name = f"brush{place}"
    none = f"{name}[1] > {HEIGHT + BELOW - 8}"
    if axis.kind == "choice":
        values = " + ".join(
            f"(inrange(scale('y{place}', domain('y{place}')[{number}]), {name}) ? domain('y{place}')[{number}] + ', ' : '')"
            for number in range(len(axis.values))
        )
        return f"slice({values} + ({none} ? 'none, ' : ''), 0, -2)"
    low = f"format(invert('y{place}', min({name}[1], {HEIGHT})), '.3~g')"
    high = f"format(invert('y{place}', {name}[0]), '.3~g')"
    return f"{name}[0] > {HEIGHT} ? 'none' : {low} + ' to ' + {high} + ({none} ? ' or none' : '')"


def _lines(count: int) -> dict[str, Any]:
    """Thinner and fainter where there are many."""
    full = 0.9 if count <= 30 else 0.6 if count <= 200 else 0.25
    faint = 0.1 if count <= 200 else 0.03
    opacity = f"chosen === null ? {full} : chosen[datum.trial] ? {STRENGTH} : {faint}"
    return {
        "type": "path",
        "from": {"data": "drawn"},
        "encode": {
            "update": {
                "path": {"field": "path"},
                "stroke": {"signal": "datum.rank == null ? inkSoft : scale('color', datum.rank)"},
                "strokeWidth": {"value": 2 if count <= 30 else 1.2},
                "strokeOpacity": {"signal": f"({opacity}) * (datum.rank == null ? 0.4 : 1)"},
                "cursor": {"value": "pointer"},
                "tooltip": {"value": True},
            },
            "hover": {"stroke": {"value": ORANGE}, "strokeOpacity": {"value": 1}, "strokeWidth": {"value": 3}},
        },
    }


def _axis(axis: Key, place: int) -> dict[str, Any]:
    bottom = HEIGHT + BELOW
    brush = f"brush{place}"
    shown = {
        "scale": f"y{place}",
        "orient": "right" if axis.field == "value" else "left",
        "grid": False,
        "labelLimit": WIDTH_OF_AXIS - 20,
        "labelOverlap": True,
        **ticks(axis),
    }
    return {
        "type": "group",
        "encode": {"update": {"x": {"signal": f"xs[{place}]"}, "height": {"value": bottom}}},
        "axes": [{**shown, "encode": {"labels": {"update": HALO}}, "domain": False, "tickColor": "transparent"}, shown],
        "marks": [
            {
                "type": "text",
                "encode": {
                    "update": {
                        "y": {"value": -28 if axis.field == "value" else -12},
                        "align": {"value": "left" if place == 0 else "right" if axis.field == "value" else "center"},
                        "text": {"signal": f"names[{place}]"},
                        "fill": {"signal": "inkText"},
                        "limit": {"signal": "max(width / (length(xs) - 1) - 8, 60)"},
                        "fontSize": {"value": 12},
                        "fontWeight": {"value": "bold" if axis.field == "value" else "normal"},
                    }
                },
            },
            *(_none(bottom) if axis.conditional else []),
            {
                "type": "rect",
                "interactive": False,
                "encode": {
                    "update": {
                        "x": {"value": -HALF_BRUSH / 2},
                        "width": {"value": HALF_BRUSH},
                        "y": {"signal": f"{brush} ? {brush}[0] : 0"},
                        "y2": {"signal": f"{brush} ? {brush}[1] : 0"},
                        "fill": {"signal": "inkText"},
                        "fillOpacity": {"value": 0.25},
                        "stroke": {"signal": f"{brush} ? inkText : null"},
                    }
                },
            },
            {
                "type": "rect",
                "name": f"area{place}",
                "encode": {
                    "enter": {
                        "x": {"value": -HALF_BRUSH},
                        "width": {"value": 2 * HALF_BRUSH},
                        "y": {"value": 0},
                        "height": {"value": bottom},
                        "fill": {"value": "transparent"},
                        "cursor": {"value": "ns-resize"},
                    }
                },
            },
        ],
    }


def _none(bottom: int) -> list[dict[str, Any]]:
    """The place of the trials that have no value here."""
    return [
        {
            "type": "text",
            "interactive": False,
            "encode": {
                "update": {
                    "x": {"value": -9},
                    "y": {"value": bottom - 8},
                    "align": {"value": "right"},
                    "baseline": {"value": "middle"},
                    "text": {"value": "none"},
                    "fill": {"signal": "inkText"},
                    "fontStyle": {"value": "italic"},
                }
            },
        }
    ]
