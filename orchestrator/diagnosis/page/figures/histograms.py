"""Histograms of activations and gradients: of every layer, or of as many as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.diagnosis.page.axes import PLAIN
from orchestrator.reports.figure import BLUE, CHOSEN, ORANGE, Figure, strength

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.statistics import Histogram
    from orchestrator.training.diagnosis.study import Diagnosis, Layer

MOST = 12
"""Layers that are drawn, spread evenly."""


def figure(found: Diagnosis) -> Figure:
    chosen = spread(len(found.layers))
    layers = [(place, found.layers[place]) for place in chosen]
    kinds: list[tuple[str, str, Callable[[Layer], Histogram | None]]] = [
        ("activations, -1 to 1", BLUE, lambda layer: layer.statistics.activations.unit),
        ("activations, whole range", BLUE, lambda layer: layer.statistics.activations.whole),
        ("gradients, whole range", ORANGE, _of_gradients),
    ]
    rest = "" if len(chosen) == len(found.layers) else f" Of {len(found.layers)} layers {len(chosen)} are drawn."
    return Figure(
        name="histograms",
        title="How are activations and gradients distributed?",
        text="30 bins each; on the left from -1 to 1, as on the lectures' slides, then from the smallest to the largest value."
        f"{rest}",
        panels=[
            _spec(title, color, [(place, layer, of(layer)) for place, layer in layers]) for title, color, of in kinds
        ],
        min_width=360,
    )


def _of_gradients(layer: Layer) -> Histogram | None:
    found = layer.statistics.gradients
    return None if found is None else found.whole


def spread(count: int) -> list[int]:
    """At most `MOST` places, evenly, the first and the last among them."""
    if count <= MOST:
        return list(range(count))
    return sorted({round(number * (count - 1) / (MOST - 1)) for number in range(MOST)})


def _spec(title: str, color: str, layers: Sequence[tuple[int, Layer, Histogram | None]]) -> dict[str, Any]:
    rows = [
        {
            "trial": place,
            "layer": layer.label,
            "from": one.low + bin * (one.high - one.low) / len(one.counts),
            "to": one.low + (bin + 1) * (one.high - one.low) / len(one.counts),
            "share": count / max(1, sum(one.counts)),
        }
        for place, layer, one in layers
        if one is not None
        for bin, count in enumerate(one.counts)
    ]
    axis = {**PLAIN, "tickCount": 3, "grid": False}
    x = {"field": "from", "type": "quantitative", "title": None, "axis": axis, "scale": {"zero": False, "nice": False}}
    y = {"field": "share", "type": "quantitative", "title": None, "axis": None}
    order = [layer.label for _, layer, _ in layers]
    tooltip = [
        {"field": "layer"},
        {"field": "from", "type": "quantitative", "format": ".4g"},
        {"field": "to", "type": "quantitative", "format": ".4g"},
        {"field": "share", "type": "quantitative", "format": ".2%"},
    ]
    header = {"labelAngle": 0, "labelAlign": "left", "labelLimit": 110, "title": None}
    return {
        "params": [CHOSEN],
        "title": title,
        "data": {"values": rows},
        "facet": {"row": {"field": "layer", "type": "nominal", "sort": order, "header": header}},
        "spacing": 6,
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
        "spec": {
            "width": 230,
            "height": 34,
            "mark": {"type": "bar", "color": color},
            "encoding": {
                "x": x,
                "x2": {"field": "to"},
                "y": y,
                "y2": {"datum": 0},
                "opacity": strength(),
                "tooltip": tooltip,
            },
        },
    }
