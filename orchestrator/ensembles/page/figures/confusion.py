"""Which classes the winner takes for which."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator.ensembles.page.view import View
from orchestrator.reports.data import cut
from orchestrator.reports.figure import RED, Figure
from orchestrator.reports.figures.confusion import CLASSES, matrix

PAIRS = 25
"""Pairs that are drawn where there are more classes than a matrix has."""


def figure(view: View) -> Figure | None:
    """None where the winner's confusion was not kept."""
    pairs = counts(view)
    if not pairs or view.winner is None:
        return None
    classes = [cut(name, 100) for name in view.comparison["classes"]]
    return Figure(
        name="confusion",
        title="Which classes does the winner take for which?",
        text=_text(view, pairs),
        spec=matrix(classes, pairs, range(len(classes))) if len(classes) <= CLASSES else _pairs(view, pairs),
    )


def counts(view: View) -> Counter[tuple[int, int]]:
    """(true class, said class) -> how many images; pairs of none are left out."""
    classes = len(view.comparison["classes"])
    return Counter(
        {
            (true, said): count
            for true, row in enumerate(view.comparison.get("confusion", ())[:classes])
            for said, count in enumerate(row[:classes])
            if count > 0
        }
    )


def _text(view: View, pairs: Counter[tuple[int, int]]) -> str:
    wrong = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    total = pairs.total()
    assert view.winner is not None
    text = f"{view.method(view.winner)} gets {total - sum(wrong.values()):,} of {total:,} test images right."
    if wrong:
        (true, said), count = max(wrong.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
        of_true = sum(number for (label, _), number in pairs.items() if label == true)
        text += f" Most often {view.class_name(true)} is taken for {view.class_name(said)}: {count:,} of {of_true:,}."
    classes = len(view.comparison["classes"])
    if classes > CLASSES:
        text += f" Of {classes:,} classes, the {min(PAIRS, len(wrong))} pairs that are confused most often are shown."
    return text


def _pairs(view: View, pairs: Counter[tuple[int, int]]) -> dict[str, Any]:
    """Bars of the pairs that are confused most often: a matrix of so many classes is nearly empty."""
    wrong = [(count, true, said) for (true, said), count in pairs.items() if true != said]
    most = sorted(wrong, key=lambda one: (-one[0], one[1:]))[:PAIRS]
    names = [f"{view.class_name(true, 20)}, taken for {view.class_name(said, 20)}" for _, true, said in most]
    y = {
        "field": "line",
        "type": "ordinal",
        "title": None,
        "axis": {"labelExpr": "names[datum.value]", "labelLimit": 320, "grid": False},
    }
    x = {
        "field": "images",
        "type": "quantitative",
        "title": "mistakes (images)",
        "axis": {"format": "d", "tickMinStep": 1},
    }
    return {
        "params": [{"name": "names", "value": names}],
        "data": {"values": [{"line": line, "images": count} for line, (count, _, _) in enumerate(most)]},
        "width": 560,
        "height": 18 * max(1, len(most)),
        "mark": {"type": "bar", "color": RED, "height": {"band": 0.7}},
        "encoding": {"x": x, "y": y, "tooltip": [{"field": "images", "type": "quantitative"}]},
    }
