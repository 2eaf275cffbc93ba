"""Singular values of the products of the weights from the first layer on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.diagnosis.page.axes import PLAIN
from orchestrator.reports.figure import BLUE, GREEN, GREY, ORANGE, Figure

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis

COLORS = {"largest": ORANGE, "rms": BLUE, "median": GREEN, "rms of independent weights": GREY}


def figure(found: Diagnosis) -> Figure | None:
    """None where fewer than two linear layers follow each other from the first on."""
    if len(found.products) < 2:
        return None
    rows = [
        {"layers": one.layers, "of": name, "value": value}
        for one in found.products
        for name, value in zip(COLORS, (one.most, one.rms, one.median, one.predicted), strict=True)
        if value is not None and 0 < value < float("inf")
    ]
    last = found.products[-1]
    text = (
        f"Of W_l ... W_1, the first l layers. With {last.layers} layers their rms is {last.rms:.4g}; independent weights of the"
        f" same variances have {last.predicted:.4g}, which of square matrices is (k sigma^2)^(l/2)."
    )
    if last.most is not None and last.median:
        text += f" The largest is {last.most / last.median:.3g} times the median."
    return Figure(
        name="products",
        title="How do the weights together stretch a signal?",
        text=text,
        spec=_spec(rows),
    )


def _spec(rows: list[dict[str, Any]]) -> dict[str, Any]:
    scale = {"domain": list(COLORS), "range": list(COLORS.values())}
    return {
        "data": {"values": rows},
        "width": "container",
        "height": 260,
        "mark": {"type": "line", "point": {"filled": True, "size": 40}},
        "encoding": {
            "x": {"field": "layers", "type": "ordinal", "title": "layers multiplied", "axis": {"labelAngle": 0}},
            "y": {"field": "value", "type": "quantitative", "title": "singular value", "scale": {"type": "log"}}
            | {"axis": PLAIN},
            "color": {"field": "of", "type": "nominal", "title": None, "scale": scale, "legend": {"orient": "top"}},
            "tooltip": [{"field": "layers"}, {"field": "of"}, {"field": "value", "format": ".4g"}],
        },
    }
