"""Where trials complete, diverge, learn nothing or do not fit: a map over any two searched keys, chosen in the figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.base.records import CAN_BE_BEST
from orchestrator.reports.data import Key, SweepData
from orchestrator.reports.figure import CHOSEN, GREY, STATES, Figure, strength
from orchestrator.reports.parts.chance import chance_of, vanished
from orchestrator.reports.parts.drawing import shares, titles

VANISHED = "vanished"
ORDER = ["completed", "stopped", VANISHED, "diverged", "infeasible", "failed", "cancelled", "running", "interrupted"]
UNSTABLE = {VANISHED, "diverged", "infeasible", "failed"}
SHAPES = {
    "completed": "circle",
    "stopped": "triangle-down",
    VANISHED: "M-1,-.35L1,-.35L1,.35L-1,.35Z",
    "diverged": "M-.7,-1L0,-.3L.7,-1L1,-.7L.3,0L1,.7L.7,1L0,.3L-.7,1L-1,.7L-.3,0L-1,-.7Z",
    "infeasible": "square",
    "failed": "diamond",
}
CROWD = 300
"""Trials above which marks are smaller."""


def kinds(sweep: SweepData) -> dict[int, str]:
    """Trial -> how it ended: its state, or `vanished` where its best value is that of guessing."""
    level = chance_of(sweep.record)
    return {
        trial.index: VANISHED
        if trial.state in CAN_BE_BEST and vanished(trial.value, level, sweep.mode)
        else trial.state.value
        for trial in sweep.record.trials.values()
    }


def figure(sweep: SweepData) -> Figure | None:
    """None with fewer than two keys, or where nothing went wrong."""
    ended = kinds(sweep)
    if len(sweep.keys) < 2 or not UNSTABLE & set(ended.values()):
        return None
    counts = Counter(ended.values())
    parts = [f"{counts[kind]:,} {kind}" for kind in ORDER if counts[kind]]
    return Figure(
        name="stability",
        title="Where do trials diverge, vanish or fail?",
        text=f"Of {len(ended):,} trials: {', '.join(parts)}.{_meaning(sweep, counts)}",
        spec=_spec(sweep, [kind for kind in ORDER if counts[kind]]),
        min_width=420,
    )


def _meaning(sweep: SweepData, counts: Mapping[str, int]) -> str:
    level = chance_of(sweep.record)
    if not counts.get(VANISHED) or level is None:
        return ""
    side = "at most" if sweep.mode == "max" else "at least"
    return f" Vanished: its best {sweep.metric} is {side} {level:.3g}, as that of guessing; nothing was learned."


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(sweep: SweepData, shown: Sequence[str]) -> dict[str, Any]:
    first, second = _first_keys(sweep)
    fields = [key.field for key in sweep.keys]
    labels = [key.label for key in sweep.keys]

    def select(name: str, field: str, label: str) -> dict[str, Any]:
        bind = {"input": "select", "options": fields, "labels": labels, "name": f"{label} "}
        return {"name": name, "value": field, "bind": bind}

    many = len(sweep.trials) > CROWD
    level = chance_of(sweep.record)
    at_chance = "false" if level is None else f"datum.value {'<=' if sweep.mode == 'max' else '>='} {level!r}"
    best = " || ".join(f"datum.state === '{state}'" for state in sorted(CAN_BE_BEST))
    return {
        "params": [
            CHOSEN,
            select("across", first.field, "across"),
            select("up", second.field, "up"),
            {"name": "axes", "value": {key.field: {"title": key.label, **_axis(key)} for key in sweep.keys}},
        ],
        "width": "container",
        "height": 340,
        "data": {"name": "trials"},
        "transform": [
            {"filter": "isValid(datum[across]) && isValid(datum[up])"},
            {
                "calculate": f"isValid(datum.value) && ({best}) && {at_chance} ? '{VANISHED}' : datum.state",
                "as": "kind",
            },
            {"calculate": _position("across", 0.618), "as": "x"},
            {"calculate": _position("up", 0.755), "as": "y"},
        ],
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 26 if many else 70, "clip": True}
                | {"tooltip": True, "cursor": "pointer"},
                "encoding": {
                    "x": _channel("across", "x"),
                    "y": _channel("up", "y"),
                    "color": {
                        "field": "kind",
                        "type": "nominal",
                        "title": "ended",
                        "scale": {"domain": list(shown), "range": [STATES.get(kind, GREY) for kind in shown]},
                    },
                    "shape": {
                        "field": "kind",
                        "type": "nominal",
                        "title": "ended",
                        "scale": {"domain": list(shown), "range": [SHAPES.get(kind, "circle") for kind in shown]},
                    },
                    "opacity": strength(0.75),
                },
            },
            *titles("axes[across].title", "axes[up].title"),
        ],
    }


def _first_keys(sweep: SweepData) -> tuple[Key, Key]:
    """The one that matters most, and of those that most of its trials have, too, the next."""
    matter = shares(sweep)
    first, *others = sorted(sweep.keys, key=lambda key: -matter.get(key.name, 0.0))
    having = [trial for trial in sweep.record.trials.values() if first.name in trial.params]
    together = [key for key in others if 2 * sum(key.name in trial.params for trial in having) > len(having)]
    return first, (together or others)[0]


def _axis(key: Key) -> dict[str, Any]:
    """How a key's values lie on an axis from 0: logarithms, numbers, or the places of choices; with ticks and their labels."""
    if key.kind == "choice":
        places = list(range(len(key.values)))
        return {"kind": "choice", "domain": [-0.5, len(places) - 0.5], "ticks": places, "labels": list(key.values)}
    low, high = key.values
    if not key.log:
        return {"kind": "number", "domain": _padded(low, high), "ticks": None, "labels": None}
    first, last = math.log10(low), math.log10(high)
    exponents = range(math.floor(first), math.ceil(last) + 1)
    digits = (1,) if last - first > 3 else (1, 3) if last - first > 1.5 else (1, 2, 5)
    ticks = [(exponent + math.log10(digit), f"{digit}e{exponent}") for exponent in exponents for digit in digits]
    inside = [(place, f"{float(text):g}") for place, text in ticks if first - 1e-9 <= place <= last + 1e-9]
    domain = _padded(first, last)
    return {"kind": "log", "domain": domain, "ticks": [p for p, _ in inside], "labels": [text for _, text in inside]}


def _padded(low: float, high: float) -> list[float]:
    pad = (high - low) * 0.03 or 0.5
    return [low - pad, high + pad]


def _position(param: str, step: float) -> str:
    """The expression of a trial's place on an axis; trials of one choice are spread by their numbers."""
    spread = f"((datum.trial * {step}) % 1 - 0.5) * 0.7"
    return (
        f"axes[{param}].kind === 'log' ? log(datum[{param}]) / LN10 : axes[{param}].kind === 'choice' ? "
        f"indexof(axes[{param}].labels, datum[{param}]) + {spread} : datum[{param}]"
    )


def _channel(param: str, field: str) -> dict[str, Any]:
    label = f"axes[{param}].labels ? axes[{param}].labels[indexof(axes[{param}].ticks, datum.value)] : datum.label"
    axis: dict[str, Any] = {"title": None, "values": {"expr": f"axes[{param}].ticks"}, "labelExpr": label}
    axis |= {"grid": True, "labelLimit": 90}
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"domain": {"expr": f"axes[{param}].domain"}, "nice": False, "zero": False},
        "axis": axis,
    }
