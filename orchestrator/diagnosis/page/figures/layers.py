"""What the figures by layer have in common: an axis of layers, lines over it, and points that a click chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.diagnosis.page.axes import PLAIN
from orchestrator.reports.figure import BLUE, CHOSEN, GREEN, ORANGE, PURPLE, strength

COLORS = [BLUE, ORANGE, GREEN, PURPLE]


def by_layer(
    names: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    title: str,
    *,
    log: bool = False,
    share: bool = False,
) -> dict[str, Any]:
    """The spec of lines over the layers.

    Args:
        names: of the layers, in order; the axis has their numbers, and what is under the mouse is named.
        lines: name -> a value a layer; what is None, or not above 0 on a logarithmic axis, has no point.
        log: whether the axis is logarithmic.
        share: whether the axis begins at 0; it then ends at 1 at least.
    """
    rows: list[dict[str, Any]] = [
        {"trial": place, "layer": place, "name": names[place], "line": line, "value": value}
        for line, values in lines.items()
        for place, value in enumerate(values)
        if value is not None and math.isfinite(value) and (value > 0 or not log)
    ]
    x = {
        "field": "layer",
        "type": "ordinal",
        "title": "layer",
        "axis": {"labelExpr": "datum.value + 1", "labelAngle": 0, "labelOverlap": True},
    }
    scale: dict[str, Any] = {"type": "log"} if log else {"zero": False}
    if share:
        scale |= {"domain": [0, max([1.0, *(row["value"] for row in rows)])], "nice": True}
    y = {"field": "value", "type": "quantitative", "title": title, "scale": scale, "axis": PLAIN}
    color = {
        "field": "line",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top"} if len(lines) > 1 else None,
        "scale": {"domain": list(lines), "range": [COLORS[at % len(COLORS)] for at in range(len(lines))]},
    }
    tooltip = [
        {"field": "name", "title": "layer"},
        {"field": "line", "title": "of"},
        {"field": "value", "type": "quantitative", "format": ".4g"},
    ]
    return {
        "params": [CHOSEN],
        "data": {"values": rows},
        "width": "container",
        "height": 240,
        "encoding": {"x": x, "y": y, "color": color, "tooltip": tooltip},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.6}},
            {"mark": {"type": "point", "filled": True, "size": 45}, "encoding": {"opacity": strength()}},
        ],
    }
