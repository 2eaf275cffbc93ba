"""Which keys act together: the strongest pairs, each as a map of the values that both had."""

from __future__ import annotations

from typing import Any

from orchestrator.reports.data import Key, SweepData, cut
from orchestrator.reports.figure import CHOSEN, Figure, ticks

MOST = 4
BINS = 8
HEIGHT = 230


def figure(sweep: SweepData) -> Figure | None:
    """None where no pair acts together beyond chance, or it cannot be told."""
    from orchestrator.analysis.interactions import interactions

    keys = {key.name: key for key in sweep.keys}
    found = [one for one in interactions(sweep.record) if one.key_a in keys and one.key_b in keys]
    if not found:
        return None
    told = "; ".join(f"{cut(one.key_a)} with {cut(one.key_b)}, {one.strength:.0%}" for one in found[:MOST])
    others = f", and {len(found) - MOST} weaker pairs" if len(found) > MOST else ""
    text = (
        f"Where the best value of one key depends on another. Part of the variation that is the pair's own: {told}{others}."
        f" A field's colour is the median {sweep.metric} of its trials; an empty field was not tried."
    )
    panels = [_panel(sweep, *_ordered(keys[one.key_a], keys[one.key_b])) for one in found[:MOST]]
    return Figure("interactions", "Which keys act together", text, panels=panels, min_width=460)


def _ordered(a: Key, b: Key) -> tuple[Key, Key]:
    """A number across, a choice up."""
    return (b, a) if a.kind == "choice" and b.kind == "number" else (a, b)


def _panel(sweep: SweepData, across: Key, up: Key) -> dict[str, Any]:
    binned = [*_binned(across, "x"), *_binned(up, "y")]
    there = f"datum.value != null && datum.{across.field} != null && datum.{up.field} != null"
    return {
        "width": "container",
        "height": HEIGHT,
        "params": [CHOSEN],
        "data": {"name": "trials"},
        "transform": [
            {"filter": f"{there} && (chosen === null || chosen[datum.trial])"},
            *binned,
            {
                "aggregate": [{"op": "median", "field": "value", "as": "median"}, {"op": "count", "as": "n"}],
                "groupby": ["x", *_end(across, "x"), "y", *_end(up, "y")],
            },
        ],
        "mark": {
            "type": "rect",
            "stroke": {"expr": "inkBack"},
            "tooltip": {"expr": "'median ' + format(datum.median, '.4~g') + ' of ' + datum.n + ' trials'"},
        },
        "encoding": {
            "x": _place(across, "x"),
            "y": _place(up, "y"),
            **({"x2": {"field": "x_end"}} if across.kind == "number" else {}),
            **({"y2": {"field": "y_end"}} if up.kind == "number" else {}),
            "color": {
                "field": "median",
                "type": "quantitative",
                "title": cut(sweep.metric, 24),
                "scale": {"range": "ramp", "zero": False, "reverse": sweep.mode == "min"},
                "legend": {"gradientLength": 150, "format": ".3~g"},
            },
        },
    }


def _binned(key: Key, name: str) -> list[dict[str, Any]]:
    """The field's lower and upper end, in the key's own units; of a choice its text."""
    if key.kind == "choice":
        return [{"calculate": f"datum.{key.field}", "as": name}]
    low, high = key.values
    scaled, back = ("log(datum.{0} / {1}) / log({2} / {1})", "{1} * pow({2} / {1}, {3} / {4})")
    if not key.log:
        scaled, back = "(datum.{0} - {1}) / ({2} - {1})", "{1} + ({2} - {1}) * {3} / {4}"
    if low == high:
        scaled = "0"
    at = f"datum.{name}_bin"
    number = f"max(0, min(floor(({scaled.format(key.field, low, high)}) * {BINS}), {BINS - 1}))"
    return [
        {"calculate": number, "as": f"{name}_bin"},
        {"calculate": back.format(key.field, low, high, at, BINS), "as": name},
        {"calculate": back.format(key.field, low, high, f"({at} + 1)", BINS), "as": f"{name}_end"},
    ]


def _end(key: Key, name: str) -> list[str]:
    return [f"{name}_end"] if key.kind == "number" else []


def _place(key: Key, name: str) -> dict[str, Any]:
    if key.kind == "choice":
        values = list(reversed(key.values)) if key.is_ordered and name == "y" else list(key.values)
        axis = {"labelAngle": 0, "labelLimit": 110, "labelOverlap": True}
        return {
            "field": name,
            "type": "nominal",
            "title": key.label,
            "sort": None,
            "scale": {"domain": values},
            "axis": axis,
        }
    scale: dict[str, Any] = (
        {"type": "log", "nice": False} if key.log else {"type": "linear", "zero": False, "nice": False}
    )
    if key.values[0] < key.values[1]:
        scale |= {"domain": list(key.values), "clamp": True}
    return {
        "field": name,
        "type": "quantitative",
        "title": key.label,
        "scale": scale,
        "axis": {**ticks(key), "grid": False},
    }
