"""Accuracy and NLL against the size of the ensemble: the prefixes of the greedy selection, and those of the ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from orchestrator.ensembles.comparison import RANKING
from orchestrator.ensembles.page.view import View, percent, whole_axis
from orchestrator.reports.data import cut
from orchestrator.reports.figure import BLUE, CHOSEN, FAINT, GREEN, GREY, IS_CHOSEN, ORANGE, PURPLE, Figure

POINTS = 150
"""Prefixes drawn of each way; of more, those spread evenly over the logarithm of their size."""

LONG = 30
"""Members from which on the axis is logarithmic."""

Prefix = tuple[str, int, float, float]
T = TypeVar("T")


def prefixes(view: View) -> dict[str, list[Prefix]]:
    """The way -> its prefixes with finite accuracy, by size; of those of a size, in which weights alone change, the last."""
    found: dict[str, dict[int, Prefix]] = {}
    for name, size, accuracy, nll in view.comparison.get("sizes", ()):
        if math.isfinite(accuracy) and size > 0:
            found.setdefault(name, {})[size] = (name, size, accuracy, nll)
    return {name: [rows[size] for size in sorted(rows)] for name, rows in found.items()}


def ranking_of(view: View) -> list[Prefix]:
    """The prefixes of the ranking."""
    return prefixes(view).get(RANKING, [])


def _way(name: str) -> str:
    return "best by rank" if name == RANKING else cut(name, 40)


def sampled(rows: Sequence[T]) -> list[T]:
    """At most `POINTS` of the rows, dense at the beginning; the first and the last among them."""
    if len(rows) <= POINTS:
        return list(rows)
    places = {round(len(rows) ** (number / (POINTS - 1))) - 1 for number in range(POINTS)}
    return [rows[place] for place in sorted(places)]


def figure(view: View) -> Figure | None:
    """None where no way has two sizes."""
    found = {_way(name): rows for name, rows in prefixes(view).items() if len(rows) > 1}
    if not found:
        return None
    titles = {"accuracy": "test accuracy (%)", "nll": "test NLL (nats)"}
    panels = [_spec(view, found, measure, title) for measure, title in titles.items()]
    if not any(math.isfinite(row[3]) for rows in found.values() for row in rows):
        panels = panels[:1]
    return Figure(name="sizes", title="How many members are enough?", text=_text(found), panels=panels, min_width=380)


def _text(found: Mapping[str, Sequence[Prefix]]) -> str:
    parts = []
    for name, rows in found.items():
        top = max(rows, key=lambda row: (row[2], -row[1]))
        near = next(row for row in rows if row[2] >= top[2] - 0.001)
        parts.append(
            f"{name} is at its best with {top[1]:,} ({percent(top[2])}), and within 0.1 points of it from {near[1]:,} on"
            if near[1] < top[1]
            else f"{name} is at its best with {top[1]:,} ({percent(top[2])})"
        )
    text = f"The mean of the first so many members of each way: {'; '.join(parts)}. The dotted line is the best single member."
    if any(len(rows) > POINTS for rows in found.values()):
        text += f" Of more than {POINTS} sizes, {POINTS} or fewer are drawn, all small ones among them."
    return f"{text} Read it, do not choose by it: these are test numbers."


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(view: View, found: Mapping[str, Sequence[Prefix]], measure: str, title: str) -> dict[str, Any]:
    number = {cut(row["method"], 40): at for at, row in enumerate(view.rows)}
    names = list(found)
    rows = [
        {"way": name, "size": size, "value": value, "trial": number.get(name, -1)}
        for name, prefix in found.items()
        for _, size, accuracy, nll in sampled(prefix)
        if math.isfinite(value := 100 * accuracy if measure == "accuracy" else nll)
    ]
    longest = max(size for prefix in found.values() for _, size, _, _ in prefix)
    x: dict[str, Any] = {
        "field": "size",
        "type": "quantitative",
        "title": f"members{' (logarithmic)' if longest > LONG else ''}",
        "scale": {"type": "log", "nice": False, "padding": 10}
        if longest > LONG
        else {"nice": False, "zero": False, "padding": 10},
        "axis": whole_axis(longest),
    }
    if longest > LONG:
        x["axis"]["values"] = [
            size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if size <= longest
        ]
    y = {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": False}}
    colors = [BLUE, ORANGE, GREEN, PURPLE]
    color = {
        "field": "way",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top"},
        "scale": {"domain": names, "range": [colors[at % len(colors)] for at in range(len(names))]},
    }
    dash = {**color, "scale": {"domain": names, "range": [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]][: max(len(names), 1)]}}
    form = ".2f" if measure == "accuracy" else ".4f"
    tooltip = [
        {"field": "way"},
        {"field": "size", "title": "members"},
        {"field": "value", "title": title, "format": form},
    ]
    # The ranking is no method, and stays.
    opacity = {"condition": {"test": f"datum.trial < 0 || {IS_CHOSEN}", "value": 1}, "value": 2 * FAINT}
    line = {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 22, "filled": True}},
        "encoding": {"x": x, "y": y, "color": color, "strokeDash": dash, "tooltip": tooltip, "opacity": opacity},
    }
    return {"params": [CHOSEN], "width": "container", "height": 260, "layer": [*_reference(view, measure), line]}


def _reference(view: View, measure: str) -> list[dict[str, Any]]:
    """A dotted line at the best single member."""
    if view.single is None or not view.is_tested:
        return []
    value = (100 if measure == "accuracy" else 1) * view.estimate(view.rows[view.single], measure)["value"]
    if not math.isfinite(value):
        return []
    mark = {"type": "rule", "strokeDash": [2, 3], "color": GREY, "strokeWidth": 1.5}
    return [
        {
            "data": {"values": [{"value": value}]},
            "mark": mark,
            "encoding": {"y": {"field": "value", "type": "quantitative"}},
        }
    ]
