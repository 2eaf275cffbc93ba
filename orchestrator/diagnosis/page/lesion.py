"""The page of networks whose units were deleted and swapped at test time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.diagnosis.page.build import Table, page
from orchestrator.reports.data import cut
from orchestrator.reports.figure import BLUE, CHOSEN, GREEN, GREY, ORANGE, PURPLE, Figure, strength

if TYPE_CHECKING:
    from orchestrator.diagnosis.subjects import Named
    from orchestrator.training.diagnosis.lesions import Lesion

    Lesions = Sequence[tuple[Named, Lesion]]

COLORS = [BLUE, ORANGE, GREEN, PURPLE]

COLUMNS = [
    ("network", "network", "text"),
    ("name", "unit", "text"),
    ("place", "place", "number"),
    ("kind", "keeps its shape", "text"),
    ("error", "error without it (%)", "number"),
    ("more", "more than with it (points)", "number"),
]

ABOUT = (
    "In the order of computation, network by network. A unit without an error changes the shape and has no shortcut."
)


def lesion_page(found: Lesions) -> str:
    """As HTML."""
    table = Table("Units", ABOUT, COLUMNS, _rows(found))
    figures = [_singles(found, table), _several(found), _orders(found)]
    title = f"{' and '.join(cut(named.title, 60) for named, _ in found)}: units deleted and swapped"
    return page(title, [sentence(named, one) for named, one in found], figures, table)


def sentence(named: Named, found: Lesion) -> str:
    """The whole network, and what it loses by one unit."""
    kind = "residual" if found.residual else "plain"
    errors = [one.error for one in found.singles if one.error is not None]
    worst, middle = max(errors), statistics.median(errors)
    return (
        f"{cut(named.title, 60)} ({kind}, {len(found.singles)} units): validation error {100 * found.error:.1f} % of"
        f" {found.images:,} images; without one unit {100 * middle:.1f} % in the median, {100 * worst:.1f} % at worst."
    )


def _rows(found: Lesions) -> list[dict[str, Any]]:
    return [
        {
            "network": named.title,
            "name": single.name,
            "place": place,
            "kind": "yes" if single.keeps_shape else "no",
            "error": None if single.error is None else 100 * single.error,
            "more": None if single.error is None else 100 * (single.error - one.error),
        }
        for named, one in found
        for place, single in enumerate(one.singles, 1)
    ]


def _singles(found: Lesions, table: Table) -> Figure:
    rows = [{"trial": number, **row} for number, row in enumerate(table.rows) if row["error"] is not None]
    whole = [{"network": named.title, "error": 100 * one.error} for named, one in found]
    x = {
        "field": "place",
        "type": "quantitative",
        "title": "unit that is deleted",
        "axis": {"format": "d", "tickMinStep": 1},
    }
    y = {"field": "error", "type": "quantitative", "title": "validation error (%)", "scale": {"zero": True}}
    shape = {"field": "kind", "type": "nominal", "title": "keeps its shape", "legend": {"orient": "top"}}
    shapes = {"scale": {"domain": ["yes", "no"], "range": ["circle", "triangle-up"]}}
    spec = {
        "params": [CHOSEN],
        "width": "container",
        "height": 280,
        "encoding": {"y": y, "color": _color(found)},
        "layer": [
            {"data": {"values": whole}, "mark": {"type": "rule", "strokeDash": [4, 3]}},
            {
                "data": {"values": rows},
                "mark": {"type": "point", "filled": True, "size": 60, "tooltip": True},
                "encoding": {"x": x, "shape": {**shape, **shapes}, "opacity": strength()},
            },
        ],
    }
    text = "The error after one unit is left out, without any training since; a line for each whole network."
    if any(one.residual for _, one in found):
        text += " Of a residual unit the branch is left out, and its shortcut stays."
    return Figure("singles", "What does a network lose with one unit?", text, spec=spec)


def _several(found: Lesions) -> Figure:
    rows = [
        {
            "network": named.title,
            "count": several.count,
            "mean": 100 * sum(several.errors) / len(several.errors),
            "low": 100 * min(several.errors),
            "high": 100 * max(several.errors),
        }
        for named, one in found
        for several in _with_whole(one)
    ]
    x = {"field": "count", "type": "quantitative", "title": "units deleted", "axis": {"format": "d", "tickMinStep": 1}}
    y = {"field": "mean", "type": "quantitative", "title": "validation error (%)"}
    tooltip = [
        {"field": "network"},
        {"field": "count"},
        *({"field": name, "format": ".1f"} for name in ("mean", "low", "high")),
    ]
    spec = {
        "data": {"values": rows},
        "width": "container",
        "height": 280,
        "encoding": {"x": x, "color": _color(found), "tooltip": tooltip},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "point": True}, "encoding": {"y": y}},
        ],
    }
    drawn = {len(several.errors) for _, one in found for several in one.several if not several.complete}
    sets = (
        f"{max(drawn)} random sets of each size, or all where there are no more" if drawn else "all sets of each size"
    )
    text = f"Mean, smallest and largest error of {sets}. Chance is {_chance(found)}."
    return Figure("several", "How does the error grow with the units that are deleted?", text, spec=spec)


def _with_whole(found: Lesion) -> list[Any]:
    from orchestrator.training.diagnosis.lesions import Several

    return [Several(0, True, (found.error,)), *found.several]


def _orders(found: Lesions) -> Figure:
    rows = [
        {"network": named.title, "tau": one.tau, "error": 100 * one.error, "swaps": one.swaps}
        for named, lesion in found
        for one in lesion.orders
    ]
    text = "Pairs of units of one shape are swapped, one pair after the other; Kendall's tau is 1 for the order of the training."
    if not rows:
        return Figure("orders", "Does the order of the units matter?", f"{text} No two units have the same shape.")
    x = {
        "field": "tau",
        "type": "quantitative",
        "title": "Kendall's tau of the order",
        "scale": {"reverse": True, "zero": False},
    }
    y = {"field": "error", "type": "quantitative", "title": "validation error (%)", "scale": {"zero": True}}
    tooltip = [
        {"field": "network"},
        {"field": "swaps"},
        {"field": "tau", "format": ".3f"},
        {"field": "error", "format": ".1f"},
    ]
    spec = {
        "data": {"values": rows},
        "width": "container",
        "height": 280,
        "mark": {"type": "point", "filled": True, "opacity": 0.7, "size": 40},
        "encoding": {"x": x, "y": y, "color": _color(found), "tooltip": tooltip},
    }
    return Figure("orders", "Does the order of the units matter?", f"{text} Chance is {_chance(found)}.", spec=spec)


def _color(found: Lesions) -> dict[str, Any]:
    names = [named.title for named, _ in found]
    colors = [COLORS[place % len(COLORS)] for place in range(len(names))] if names else [GREY]
    return {
        "field": "network",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top", "labelLimit": 300},
        "scale": {"domain": names, "range": colors},
    }


def _chance(found: Lesions) -> str:
    shares = sorted({100 * (1 - 1 / one.classes) for _, one in found})
    return " or ".join(f"{share:.3g} %" for share in shares)
