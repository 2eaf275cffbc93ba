"""The page of optimizers on functions of two variables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from orchestrator.diagnosis.page.axes import PLAIN
from orchestrator.diagnosis.page.build import Table, page
from orchestrator.reports.figure import CHOSEN, PALETTE, Figure, strength

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.trajectories import Surface, Trajectories, Trajectory

GOALS = {
    "settled": "steps until the value stays below 1 % of the first",
    "left": "steps until y is beyond 1",
    "arrived": "steps until both coordinates are within 0.5 of 0",
}

WHAT = {
    "settled": "A learning rate eps is stable for gradient descent where eps l < 2; steps along y overshoot from eps l = 1 on.",
    "left": "At the start the slope along y is 1/3000 of that along x; methods that divide by its size get away first.",
    "arrived": "Far from 0 it is nearly flat, and near 0 it bends 200 times as much as the first quadratic along x.",
}

LEVELS = 40, 28
"""Cells of the background."""

ABOUT = (
    "Steps to the goal of each function: to stay below 1 % of the first value (quadratics), to leave the saddle, to come near the"
    " pit of the plateau; none where a method diverged or did not get there."
)


def trajectories_page(found: Trajectories) -> str:
    """As HTML."""
    columns = [("name", "method", "text"), ("rate", "learning rate", "number")]
    columns += [(f"s{place}", surface.name, "number") for place, surface in enumerate(found.surfaces)]
    rows = [
        {"name": method.name, "rate": method.rate}
        | {f"s{place}": way.steps for place, way in enumerate(found.ways_of(method.name))}
        for method in found.methods
    ]
    figures = [*(_way(found, surface) for surface in found.surfaces), _values(found), _noise(found)]
    lines = [
        f"{len(found.methods)} optimizers of the catalogue at a learning rate of {found.rate:g}, without noise; Newton's method"
        " takes its own steps."
    ]
    return page("Optimizers on functions of two variables", lines, figures, Table("Methods", ABOUT, columns, rows))


def _way(found: Trajectories, surface: Surface) -> Figure:
    ways = [way for way in found.ways if way.surface == surface.name]
    name = "".join(letter if letter.isalnum() else "-" for letter in surface.name)
    best = sorted((way.steps, way.method) for way in ways if way.steps is not None)
    never = [way.method for way in ways if way.steps is None]
    text = WHAT[surface.goal] + (f" {best[0][1]} has the fewest {GOALS[surface.goal]}: {best[0][0]}." if best else "")
    if never:
        text += f" Not within {max(len(way.values) for way in ways) - 1} steps: {', '.join(never)}."
    return Figure(name, f"{surface.name[0].upper()}{surface.name[1:]}", text, spec=_map(found, surface, ways))


def _map(found: Trajectories, surface: Surface, ways: list[Trajectory]) -> dict[str, Any]:
    scales = {
        axis: {"domain": list(ends), "nice": False, "zero": False}
        for axis, ends in (("x", surface.x), ("y", surface.y))
    }
    numbers = {method.name: number for number, method in enumerate(found.methods)}
    rows = [
        {"trial": numbers[way.method], "method": way.method, "step": step, "x": point[0], "y": point[1]}
        for way in ways
        for step, point in enumerate(way.points)
    ]
    x = {"field": "x", "type": "quantitative", "title": "x", "scale": scales["x"]}
    y = {"field": "y", "type": "quantitative", "title": "y", "scale": scales["y"]}
    marks: list[dict[str, Any]] = [
        {"mark": {"type": "line", "strokeWidth": 1.5, "clip": True}},
        {"mark": {"type": "point", "filled": True, "size": 25, "clip": True, "tooltip": True}},
    ]
    for mark in marks:
        mark["data"] = {"values": rows}
        mark["encoding"] = {
            "x": x,
            "y": y,
            "color": _color(found),
            "order": {"field": "step"},
            "opacity": strength(0.9),
        }
    return {
        "params": [CHOSEN],
        "width": "container",
        "height": 360,
        "layer": [_background(surface), *marks],
    }


def _background(surface: Surface) -> dict[str, Any]:
    """The function's height in bands of equal width, of its square root where it has no negative values."""
    across, up = LEVELS
    (left, right), (bottom, top) = surface.x, surface.y
    width, height = (right - left) / across, (top - bottom) / up
    cells = []
    for column in range(across):
        for row in range(up):
            x, y = left + column * width, bottom + row * height
            value = float(surface.function(x + width / 2, y + height / 2))
            level = math.copysign(math.sqrt(abs(value)), value)
            cells.append({"x": x, "x2": x + width, "y": y, "y2": y + height, "level": round(level, 3)})
    fill = {
        "field": "level",
        "type": "quantitative",
        "legend": None,
        "scale": {
            "type": "quantize",
            "range": ["#3d444f22", "#3d444f38", "#3d444f50", "#3d444f68", "#3d444f80", "#3d444f98"],
        },
    }
    scales = {"x": {"domain": [left, right], "nice": False}, "y": {"domain": [bottom, top], "nice": False}}
    return {
        "data": {"values": cells},
        "mark": {"type": "rect", "strokeWidth": 0},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "scale": scales["x"]},
            "x2": {"field": "x2"},
            "y": {"field": "y", "type": "quantitative", "scale": scales["y"]},
            "y2": {"field": "y2"},
            "fill": fill,
        },
    }


def _values(found: Trajectories) -> Figure:
    numbers = {method.name: number for number, method in enumerate(found.methods)}
    surface = found.surfaces[1]
    rows = [
        {"trial": numbers[way.method], "method": way.method, "step": step, "value": max(value, 1e-12)}
        for way in found.ways
        if way.surface == surface.name
        for step, value in enumerate(way.values[:100])
        if value < 1e6
    ]
    spec = {
        "params": [CHOSEN],
        "data": {"values": rows},
        "width": "container",
        "height": 280,
        "mark": {"type": "line", "strokeWidth": 1.5, "tooltip": True},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": "step"},
            "y": {"field": "value", "type": "quantitative", "title": "value", "scale": {"type": "log"}}
            | {"axis": PLAIN},
            "color": _color(found),
            "opacity": strength(),
        },
    }
    text = f"On the {surface.name}. At a constant learning rate RMSprop and sign do not come to rest."
    return Figure("values", "How fast does the value fall?", text, spec=spec)


def _noise(found: Trajectories) -> Figure:
    rows = [
        {"method": f"{one.method} ({one.rate:.3g})", "measure": measure, "value": value}
        for one in found.noisy
        for measure, value in (("roughness of the path", one.roughness), ("spread at the end", one.spread))
    ]
    from orchestrator.training.diagnosis.trajectories import NOISE_WORDS, NOISY_MEASURES

    names = [row["method"] for row in rows[::2]]
    spec = {
        "data": {"values": rows},
        "height": 44 * len(names),
        "width": "container",
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": {"field": "method", "type": "nominal", "title": None, "sort": names, "axis": {"labelLimit": 280}},
            "yOffset": {"field": "measure"},
            "x": {"field": "value", "type": "quantitative", "title": None},
            "color": {"field": "measure", "type": "nominal", "title": None, "legend": {"orient": "top"}},
        },
    }
    text = (
        f"With {NOISE_WORDS}; the learning rate in brackets. {NOISY_MEASURES.capitalize()}. At the same rate"
        " momentum spreads more than gradient descent, as its effective step is ten times as long; at the same effective step it"
        " spreads no more, and its path is smoother."
    )
    return Figure("noise", "Who minds noise in the gradient?", text, spec=spec)


def _color(found: Trajectories) -> dict[str, Any]:
    names = [method.name for method in found.methods]
    scale = {"domain": names, "range": [PALETTE[place % len(PALETTE)] for place in range(len(names))]}
    return {
        "field": "method",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top", "columns": 4},
        "scale": scale,
    }
