"""The page of the paths through a residual network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.diagnosis.page.axes import PLAIN
from orchestrator.diagnosis.page.build import Table, page
from orchestrator.reports.data import cut
from orchestrator.reports.figure import BLUE, CHOSEN, GREEN, ORANGE, Figure, strength

if TYPE_CHECKING:
    from orchestrator.diagnosis.subjects import Named
    from orchestrator.training.diagnosis.paths import Paths

COLUMNS = [
    ("length", "units on the path", "number"),
    ("paths", "paths (%)", "number"),
    ("gradient", "gradient along one", "number"),
    ("spread", "its standard deviation", "number"),
    ("samples", "samples", "number"),
    ("weight", "part of the gradient (%)", "number"),
]

ABOUT = "All lengths that there are; a gradient without samples is interpolated."


def paths_page(named: Named, found: Paths) -> str:
    """As HTML."""
    rows = [
        {
            "name": f"{one.units} units",
            "length": one.units,
            "paths": 100 * one.share,
            "gradient": one.gradient,
            "spread": one.spread if one.samples else None,
            "samples": one.samples,
            "weight": 100 * one.weight,
        }
        for one in found.lengths
    ]
    table = Table("Lengths", ABOUT, COLUMNS, rows)
    return page(f"{cut(named.title, 100)}: paths", sentences(found), [_lengths(found, rows), _gradients(rows)], table)


def sentences(found: Paths) -> list[str]:
    """How many paths, how long they are, and how long those are that the gradient takes."""
    low, high = found.usual()
    first, last = found.usual(by_gradient=True)
    return [
        f"{found.units} residual units, so 2^{found.units} = {_count(found.units)} paths from the images to the classifier;"
        f" {100 * found.between(low, high):.1f} % of them go through {low} to {high} units.",
        f"{100 * found.between(first, last, by_gradient=True):.1f} % of the gradient comes by paths of {first} to {last} units,"
        f" {_percent(found.between(first, last))} of all paths; a path has {found.mean:g} units in the mean, weighted by its"
        f" gradient {found.weighted:.2f}.",
    ]


def _count(units: int) -> str:
    return f"{2**units:,}" if units <= 20 else f"{2.0**units:.2e}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _lengths(found: Paths, rows: list[dict[str, Any]]) -> Figure:
    values = [
        {"trial": number, "length": row["length"], "of": of, "share": row[key]}
        for number, row in enumerate(rows)
        for of, key in (("paths", "paths"), ("gradient that comes by them", "weight"))
    ]
    domain = ["paths", "gradient that comes by them"]
    color = {
        "field": "of",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top", "labelLimit": 300},
        "scale": {"domain": domain, "range": [BLUE, ORANGE]},
    }
    spec = {
        "params": [CHOSEN],
        "data": {"values": values},
        "width": "container",
        "height": 280,
        "encoding": {
            "x": _across(),
            "y": {"field": "share", "type": "quantitative", "title": "share (%)", "stack": None},
            "color": color,
        },
        "layer": [
            {"mark": {"type": "line", "opacity": 0.6}},
            {"mark": {"type": "point", "filled": True, "tooltip": True}, "encoding": {"opacity": strength()}},
        ],
    }
    text = (
        "The number of paths of a length is binomial, with its middle at half of the units. What a length contributes is the"
        " number of its paths times the gradient along one of them."
    )
    return Figure("lengths", "How long are the paths that learn?", text, spec=spec)


def _gradients(rows: list[dict[str, Any]]) -> Figure:
    values = [
        {"trial": number, "length": row["length"], "gradient": row["gradient"]}
        for number, row in enumerate(rows)
        if row["samples"] and row["gradient"] > 0
    ]
    spec = {
        "params": [CHOSEN],
        "data": {"values": values},
        "width": "container",
        "height": 260,
        "mark": {"type": "point", "filled": True, "color": GREEN, "size": 50, "tooltip": True},
        "encoding": {
            "x": _across(),
            "y": {
                "field": "gradient",
                "type": "quantitative",
                "title": "gradient along one path",
                "scale": {"type": "log"},
            }
            | {"axis": PLAIN},
            "opacity": strength(),
        },
    }
    text = (
        "The length of the loss's gradient with respect to a batch of images that goes through the branches of so many random"
        " units and the shortcuts of the others; the mean over samples."
    )
    return Figure("gradients", "How much gradient comes along one path?", text, spec=spec)


def _across() -> dict[str, Any]:
    return {
        "field": "length",
        "type": "quantitative",
        "title": "units on the path",
        "axis": {"format": "d", "tickMinStep": 1},
    }
