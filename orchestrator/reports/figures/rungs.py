"""Was stopping early right? How the ranking at each rung, or each epoch, agrees with that at the end.

Only trials that reached their end can be compared, and these the scheduler let pass: among them the agreement is lower than it
would be among all, and nobody knows how those would have ended that it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.journal.record import SweepRecord, TrialRecord, is_number
from orchestrator.reports.data import SweepData
from orchestrator.reports.figure import BLUE, GREY, ORANGE, Figure
from orchestrator.reports.parts.ranks import kendall, spearman

FEWEST = 3
"""Trials below which no correlation is drawn."""

SURE = 0.9
"""A rank correlation from which on the order is called that of the end."""

EPOCHS = 60
"""Epochs at most at which it is worked out, rungs aside."""


MEASURES = ["Spearman's rho", "Kendall's tau"]


@dataclass(frozen=True)
class Agreement:
    """Of the trials that reached their end: how their order by the best of `epoch` epochs agrees with the final one.

    Args:
        n: how many they are.
        place: that of the trial that ended best, from 1, in the order at `epoch`; equal values share the first place of theirs.
        stopped: how many trials were stopped at this epoch.
        above: how many of these were better here than the trial that ended best.
    """

    epoch: int
    n: int
    spearman: float | None
    kendall: float | None
    place: int
    stopped: int
    above: int


def agreements(record: SweepRecord, epochs: Sequence[int]) -> list[Agreement]:
    """The agreement at each of `epochs` at which at least `FEWEST` trials that reached their end have a value."""
    metric, sign = record.opened.metric, 1 if record.opened.mode == "max" else -1
    curves = {trial.index: _curve(trial, metric, sign) for trial in record.trials.values()}
    ended = [t for t in record.trials.values() if t.state == "completed" and is_number(t.value)]
    stopped = [trial for trial in record.trials.values() if trial.state == "stopped"]
    found = []
    for epoch in epochs:
        pairs = [(curves[t.index][epoch], sign * (t.value or 0.0)) for t in ended if epoch in curves[t.index]]
        if len(pairs) < FEWEST:
            continue
        then, end = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        of_best = max(pairs, key=lambda pair: (pair[1], pair[0]))[0]
        here = [curves[trial.index].get(epoch) for trial in stopped if trial.epoch == epoch]
        found.append(
            Agreement(
                epoch,
                len(pairs),
                spearman(then, end),
                kendall(then, end),
                1 + sum(value > of_best for value in then),
                len(here),
                sum(value is not None and value > of_best for value in here),
            )
        )
    return found


def _curve(trial: TrialRecord, metric: str, sign: int) -> Mapping[int, float]:
    """Epoch -> the best objective so far, times `sign`: what a scheduler is shown."""
    best, found = -math.inf, {}
    for epoch in trial.epochs:
        value = epoch["metrics"].get(metric)
        best = max(best, sign * float(value)) if is_number(value) else best
        if best > -math.inf:
            found[epoch["epoch"]] = best
    return found


def epochs_of(longest: int, rungs: Sequence[int]) -> list[int]:
    """Every epoch before the last, or `EPOCHS` of them that are spread evenly, and the rungs."""
    step = max(1, -(-longest // EPOCHS))
    return sorted({*range(step if step > 1 else 1, longest, step), *(rung for rung in rungs if rung < longest)})


def figure(sweep: SweepData) -> Figure | None:
    """None where fewer than `FEWEST` trials of several epochs reached their end, or their order cannot be compared."""
    longest = max((trial.epoch for trial in sweep.record.trials.values() if trial.state == "completed"), default=0)
    found = [one for one in agreements(sweep.record, epochs_of(longest, sweep.rungs)) if one.spearman is not None]
    if not found:
        return None
    return Figure(
        name="rungs",
        title="Was stopping early right?" if sweep.rungs else "Could trials have been stopped early?",
        text=_text(sweep, found),
        spec=_spec(sweep, found),
    )


def _text(sweep: SweepData, found: Sequence[Agreement]) -> str:
    rungs = [one for one in found if one.epoch in sweep.rungs]
    if not rungs:
        return f"{_sure_from(found)} No scheduler stopped trials here; {found[0].n} reached their end."
    parts = [
        f"epoch {one.epoch} agrees with the final one by {one.spearman:.2f}, and the best of them was number {one.place} there"
        for one in rungs[:2]
        if one.spearman is not None
    ]
    agree = "; at ".join(parts)
    text = f"Of the {rungs[0].n} trials that reached their end, the order at {agree} (Spearman; 1 is the same order)."
    stopped, above = sum(one.stopped for one in rungs), sum(one.above for one in rungs)
    if stopped:
        text += f" Of {stopped} stopped trials {above} were better at their rung than that one; their end is not known."
    return text


def _sure_from(found: Sequence[Agreement]) -> str:
    """From which epoch on the order is that of the end."""
    unsure = [one.epoch for one in found if one.spearman is None or one.spearman < SURE]
    first = next((one.epoch for one in found if not unsure or one.epoch > unsure[-1]), None)
    if first is None:
        return f"Up to the last epoch but one the order differs from that at the end (Spearman below {SURE})."
    return f"From epoch {first} on the order agrees with that at the end (Spearman at least {SURE})."


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(sweep: SweepData, found: Sequence[Agreement]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "epoch": one.epoch,
            "measure": measure,
            "agreement": value,
            "trials": one.n,
            "place": one.place,
            "stopped": one.stopped,
            "rung": one.epoch in sweep.rungs,
        }
        for one in found
        for measure, value in zip(MEASURES, (one.spearman, one.kendall), strict=True)
        if value is not None
    ]
    tooltip = [
        {"field": "epoch"},
        {"field": "measure"},
        {"field": "agreement", "format": ".2f"},
        {"field": "trials", "title": "trials compared"},
        {"field": "place", "title": "place of the one that ended best"},
        {"field": "stopped", "title": "stopped here"},
    ]
    least = min(0.0, *(row["agreement"] for row in rows))
    return {
        "data": {"values": rows},
        "width": "container",
        "height": 240,
        "encoding": {
            "x": {
                "field": "epoch",
                "type": "quantitative",
                "title": "epoch",
                "axis": {"tickMinStep": 1, "format": "d"},
                "scale": {"nice": False, "zero": False, "padding": 12},
            },
            "color": {
                "field": "measure",
                "type": "nominal",
                "title": None,
                "scale": {"domain": MEASURES, "range": [BLUE, ORANGE]},
            },
        },
        "layer": [
            {
                "transform": [
                    {"filter": "datum.rung"},
                    {"aggregate": [{"op": "max", "field": "stopped", "as": "stopped"}], "groupby": ["epoch"]},
                ],
                "encoding": {"color": {"value": GREY}},
                "layer": [
                    {"mark": {"type": "rule", "strokeDash": [3, 3]}},
                    {
                        "mark": {
                            "type": "text",
                            "y": 0,
                            "dy": -6,
                            "text": {"expr": "'rung, ' + datum.stopped + ' stopped'"},
                        }
                    },
                ],
            },
            {
                "mark": {"type": "line", "point": {"size": 40}},
                "encoding": {
                    "y": {
                        "field": "agreement",
                        "type": "quantitative",
                        "title": "rank correlation with the end (1 = same order)",
                        "scale": {"domain": [least, 1]},
                    },
                    "tooltip": tooltip,
                },
            },
        ],
    }
