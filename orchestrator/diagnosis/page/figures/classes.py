"""How many images of each class a trained network gets right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.data import cut
from orchestrator.reports.figure import BLUE, Figure

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis

MOST = 40
"""Classes that are drawn, the worst ones."""


def figure(found: Diagnosis) -> Figure | None:
    """None at initialization."""
    if found.classes is None:
        return None
    names, counts = found.classes.names, found.classes.confusion
    total = sum(map(sum, counts))
    right = sum(row[place] for place, row in enumerate(counts))
    shares = sorted((row[place] / max(1, sum(row)), place) for place, row in enumerate(counts))
    rows = [
        {"line": line, "name": cut(names[place], 60), "right": 100 * share, "images": sum(counts[place])}
        for line, (share, place) in enumerate(shares[:MOST])
    ]
    text = f"{100 * right / total:.2f} % of {total:,} validation images; {cut(names[shares[0][1]], 40)} is the hardest class."
    if len(shares) > MOST:
        text += f" Of {len(shares):,} classes the {MOST} hardest are shown."
    axis = {"labelExpr": "names[datum.value]", "labelLimit": 160, "grid": False}
    spec = {
        "params": [{"name": "names", "value": [row["name"] for row in rows]}],
        "data": {"values": rows},
        "width": 480,
        "height": {"step": 18},
        "mark": {"type": "bar", "color": BLUE},
        "encoding": {
            "y": {"field": "line", "type": "ordinal", "title": None, "axis": axis},
            "x": {"field": "right", "type": "quantitative", "title": "right (%)", "scale": {"domain": [0, 100]}},
            "tooltip": [{"field": "name", "title": "class"}, {"field": "right", "format": ".2f"}, {"field": "images"}],
        },
    }
    return Figure(name="classes", title="Which classes are hard?", text=text, spec=spec)
