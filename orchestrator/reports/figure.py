"""What a figure of the report is, and what figures have in common: how they are linked, their colours, their sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.reports.data import Key, SweepData

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#8A8A8A"
PALETTE = [BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY]
"""Okabe and Ito's colours, which the colour-blind tell apart; readable on white and on dark grey."""

STATES = {
    "completed": BLUE,
    "stopped": SKY,
    "diverged": RED,
    "infeasible": PURPLE,
    "failed": ORANGE,
    "cancelled": GREY,
    "interrupted": GREY,
    "running": GREEN,
}
"""The colour of each state, the same in all figures."""

FAINT = 0.08
"""Opacity of what is not chosen."""

CHOSEN = {"name": "chosen", "value": None}
"""The parameter (Vega-Lite) or signal (Vega) that the page sets: None, or an object {number of a trial: true}."""

CHOSEN_COUNT = {"name": "chosen_count", "value": 0}

STRENGTH = "(chosen_count <= 10 ? 1 : chosen_count <= 60 ? 0.8 : chosen_count <= 400 ? 0.55 : 0.2)"
"""The expression of the opacity of a chosen line among as many as there are."""

IS_CHOSEN = "(chosen === null || chosen[datum.trial])"
"""The expression that holds for the rows to be drawn at full strength."""


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    A click on a mark whose datum has `trial` chooses that trial: the page sees to it in every figure. A mark with `"tooltip":
    {"value": true}` (Vega; in Vega-Lite `"tooltip": true` in the mark) shows the trial's name and value; a figure may give a text
    of its own. A spec may have signals of these names:

    - `picked`: an array of trial numbers that a brush chose, None when it is cleared; `picked_as` says in words what they are.
    - `chosen_count`: how many trials are chosen, 0 for all; for strokes that are fainter where there are many.
    - `cleared`: a number that the page counts up when another figure chooses or the reader clears; a brush vanishes then. A view
      without it is drawn anew.

    Args:
        name: its anchor: lower-case letters and hyphens.
        title: plain text; a question that it answers, or what it shows.
        text: one to three sentences with numbers that say what is to be seen; plain text.
        spec: of Vega-Lite, or of Vega where it has `$schema` with "/vega/", as a plain dict. `{"name": "trials"}` and
            `{"name": "epochs"}` as data are the tables that `SweepData` describes. With `"width": "container"` it fills the page;
            a spec of Vega always does, and has `"autosize": {"type": "fit-x", "contains": "padding"}`.
        panels: instead of one spec, several, side by side where there is room for them.
        html: instead of a spec: HTML of ours, in which everything from a sweep is escaped. `data-trial="7"` on an element makes
            it faint where trial 7 is not chosen, and choosable by a click.
        min_width: pixels below which it is scrolled and not shrunk; of panels, which stand side by side, those of each.
    """

    name: str
    title: str
    text: str
    spec: Mapping[str, Any] | None = None
    panels: Sequence[Mapping[str, Any]] = ()
    html: str | None = None
    min_width: int = 400


def strength(full: float = 1.0, faint: float = FAINT) -> dict[str, Any]:
    """An opacity encoding of Vega-Lite: `full` for the chosen trials, `faint` for others. The spec has `CHOSEN` in its params."""
    return {"condition": {"test": IS_CHOSEN, "value": full}, "value": faint}


def ticks(key: Key) -> dict[str, Any]:
    """How the axis of a key is labelled, for Vega and Vega-Lite; logarithmic ones at powers of ten, where there are two."""
    if key.kind == "choice":
        return {}
    if not key.log:
        return {"format": ".4~g", "tickCount": 6, "labelOverlap": True}
    low, high = key.values
    tens = [float(f"1e{power}") for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return {"format": "~g", "labelOverlap": True} | ({"values": tens} if len(tens) > 1 else {"tickCount": 4})


def value_scale(sweep: SweepData) -> dict[str, Any]:
    """The scale of an axis of values in Vega-Lite; what lies beyond its ends is drawn at its edge."""
    return {"domain": list(sweep.ends), "clamp": True, "nice": False, "zero": False}


def beyond(sweep: SweepData) -> str:
    """A sentence about the values that `value_scale` moves to the edge, with a space before it; empty where there are none."""
    low, high = sweep.ends
    count = sum(row["value"] is not None and not low <= row["value"] <= high for row in sweep.trials)
    end = f"below {low:.4g}" if sweep.mode == "max" else f"above {high:.4g}"
    if not count:
        return ""
    who = "One trial with a value" if count == 1 else f"{count:,} trials with values"
    return f" {who} {end} {'is' if count == 1 else 'are'} drawn at the edge."
