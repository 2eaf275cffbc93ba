"""What early stopping saved: the epochs that stopped trials would still have had, and the seconds that these would have taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.journal.record import SweepRecord, TrialRecord, is_number
from orchestrator.reports.data import SweepData
from orchestrator.reports.figure import GREY, STATES, Figure
from orchestrator.reports.parts.units import duration

TRAINED = "trained"


@dataclass(frozen=True)
class Saved:
    """What stopping one trial saved.

    Args:
        epochs: planned less trained.
        seconds: these at the mean time of the epochs that it had; None where their times are not known.
    """

    trial: int
    at: int
    epochs: int
    seconds: float | None


def epoch_seconds(trial: TrialRecord) -> list[float]:
    """How long each epoch of a trial took: from the end of the one before, or from the later beginning of its attempt."""
    found = []
    before: list[int] = []
    for epoch in trial.epochs:
        end = epoch["time_ms"]
        began = max([*before, *(time for time in trial.began_ms if time <= end)], default=end)
        if end > began:
            found.append((end - began) / 1000)
        before = [max([*before, end])]
    return found


def savings(record: SweepRecord) -> list[Saved]:
    """What each stopped trial saved, by number."""
    found = []
    for trial in sorted(record.trials.values(), key=lambda trial: trial.index):
        planned = planned_epochs(trial)
        if trial.state == "stopped" and planned is not None and planned > trial.epoch:
            times = epoch_seconds(trial)
            left = planned - trial.epoch
            found.append(Saved(trial.index, trial.epoch, left, left * sum(times) / len(times) if times else None))
    return found


def planned_epochs(trial: TrialRecord) -> int | None:
    """The epochs that a trial would have had to its end."""
    planned = trial.config.get("epochs")
    return int(planned) if is_number(planned) and not isinstance(planned, bool) else None


def survival(record: SweepRecord) -> list[dict[str, Any]]:
    """For each epoch of the plan, how many of the trials that have ended trained it, and how many had ended before in which way.

    The area of a way to end is the epochs of the plan that were not trained for it.
    """
    ended = [(trial, planned_epochs(trial) or 0) for trial in record.trials.values() if trial.ended]
    rows = []
    for epoch in range(1, max((planned for _, planned in ended), default=0) + 1):
        counts: dict[str, int] = {}
        for trial, planned in ended:
            if epoch <= planned:
                way = TRAINED if epoch <= trial.epoch else trial.state.value
                counts[way] = counts.get(way, 0) + 1
        rows += [{"epoch": epoch, "way": way, "trials": count} for way, count in sorted(counts.items())]
    return rows


def figure(sweep: SweepData) -> Figure | None:
    """None where no trial was stopped."""
    found = savings(sweep.record)
    if not found:
        return None
    return Figure(
        name="saved",
        title="What did early stopping save?",
        text=_text(sweep, found),
        spec=_spec(sweep),
    )


def _text(sweep: SweepData, found: Sequence[Saved]) -> str:
    ended = [trial for trial in sweep.record.trials.values() if trial.ended]
    planned = sum(planned_epochs(trial) or 0 for trial in ended)
    epochs = sum(one.epochs for one in found)
    seconds = [one.seconds for one in found if one.seconds is not None]
    trained = sum(sum(epoch_seconds(trial)) for trial in ended)
    text = (
        f"Stopping {len(found)} of {len(ended)} trials saved {epochs:,} of {planned:,} epochs ({epochs / planned:.0%})"
    )
    if not seconds:
        return f"{text}."
    return (
        f"{text}, about {duration(sum(seconds))} of training beside the {duration(trained)} that were spent; "
        "estimated by the mean time of each trial's own epochs."
    )


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(sweep: SweepData) -> dict[str, Any]:
    rows = survival(sweep.record)
    names = {TRAINED: "trained", "stopped": "saved: stopped before"}
    ways = [TRAINED, "stopped", *sorted({row["way"] for row in rows} - {TRAINED, "stopped"})]
    bars = _runs(rows, ways)
    for bar in bars:
        bar["way"] = names.get(bar["way"], f"{bar['way']} before")
    return {
        "data": {"values": bars},
        "width": "container",
        "height": 220,
        "mark": {"type": "rect"},
        "encoding": {
            "x": {
                "field": "from",
                "type": "quantitative",
                "title": "epoch",
                "scale": {"nice": False, "zero": False},
                "axis": {"tickMinStep": 1, "format": "d"},
            },
            "x2": {"field": "to"},
            "y": {"field": "low", "type": "quantitative", "title": "trials"},
            "y2": {"field": "high"},
            "color": {
                "field": "way",
                "type": "nominal",
                "title": None,
                "scale": {
                    "domain": [names.get(way, f"{way} before") for way in ways],
                    "range": [STATES["completed"] if way == TRAINED else STATES.get(way, GREY) for way in ways],
                },
            },
            "tooltip": [
                {"field": "epochs"},
                {"field": "way", "title": "of the trials", "type": "nominal"},
                {"field": "trials", "type": "quantitative"},
            ],
        },
    }


def _runs(rows: Sequence[dict[str, Any]], ways: Sequence[str]) -> list[dict[str, Any]]:
    """The counts stacked in the order of `ways`, as one rectangle for epochs that follow each other with the same counts."""
    runs: list[dict[str, Any]] = []
    heights: dict[int, int] = {}
    for row in sorted(rows, key=lambda row: (ways.index(row["way"]), row["epoch"])):
        epoch, low = row["epoch"], heights.get(row["epoch"], 0)
        heights[epoch] = high = low + row["trials"]
        last = runs[-1] if runs else {}
        if (last.get("way"), last.get("low"), last.get("high"), last.get("to")) == (row["way"], low, high, epoch - 0.5):
            last |= {"to": epoch + 0.5, "epochs": f"{last['first']} to {epoch}"}
        else:
            place = {"from": epoch - 0.5, "to": epoch + 0.5, "first": epoch, "epochs": f"{epoch}"}
            runs.append({"way": row["way"], "trials": row["trials"], "low": low, "high": high, **place})
    return runs
