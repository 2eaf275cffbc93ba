"""Journals of strangers: every text tries to be code, every number to be none; and sweeps with next to nothing in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.base.layout import SWEEP_MARK
from orchestrator.journal.events import event_from
from orchestrator.journal.file import Journal
from tests.simulated import START_MS

NASTY = [
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "a.b[0]['c']\"; window.hacked=1; //",
    "datum.trial); window.hacked=1; (",
    "${window.hacked=1}\\u003cscript>\u2028\u202e\x00\x1b[2J\n\ttwo lines",
    "--><!-- <!DOCTYPE" + "x" * 10_000,
    "constructor",
    "__proto__",
]
"""Texts that would do something if they were taken for code, HTML or a path in a table."""


def sweep_of(
    folder: Path,
    trials: list[dict[str, Any]],
    *,
    name: str = "small",
    metric: str = "val/accuracy",
    closed: bool = True,
    epochs: int = 3,
) -> Path:
    """A sweep's folder with a journal and nothing else.

    Args:
        trials: of each `params`, `values` of the metric by epoch, and `state` (None while it runs); `reason`, `metrics` if any.
    """
    folder.mkdir(parents=True)
    (folder / SWEEP_MARK).write_text(f'{{"sweep": "{folder.name}"}}')
    now = START_MS
    journal = Journal(folder / "journal.sqlite", create=True, clock=lambda: now / 1000)
    config = {"choices": {}, "epochs": epochs, "batch_size": 8, "seed": 0, "metric": metric, "mode": "max"}
    base = {"uid": folder.name, "name": name, "metric": metric, "mode": "max", "trials": len(trials), "folder": "."}

    def append(kind: str, data: dict[str, Any], trial: int | None = None, attempt: int | None = None) -> None:
        journal.append(event_from(kind, data, trial), trial=trial, attempt=attempt)

    append("sweep_opened", {**base, "plan": "", "tracking": {"kind": "none"}})
    for index, trial in enumerate(trials):
        append("suggested", {"params": trial["params"], "config": config, "config_index": index}, index)
        append("started", {"began_ms": now}, index, 1)
        values = trial["values"]
        floats = [(value, -place) for place, value in enumerate(values) if isinstance(value, float)]
        best = max(floats, default=None)
        told = [-best[1] + 1, best[0]] if best else None
        curve = [
            {"epoch": place + 1, "time_ms": now + 10 * place, "metrics": {metric: value, **trial.get("more", {})}}
            for place, value in enumerate(values)
        ]
        now += 1000
        if curve:
            append("reported", {"epochs": curve, "checkpoint": None, "best": told}, index, 1)
        if trial["state"] is not None:
            ended = {"state": trial["state"], "reason": trial.get("reason", trial["state"]), "epoch": len(values)}
            ended |= {"value": best[0] if best else None, "best_epoch": told[0] if told else None}
            append("terminal", {**ended, "metrics": trial.get("metrics", {}), "artifacts": []}, index, 1)
    if closed:
        append("sweep_closed", {"reason": "finished", "totals": {}, "best": None, "seconds": 1.0, "weights": []})
    journal.commit()
    journal.close()
    return folder


def hostile_sweep(folder: Path) -> Path:
    """Names of keys, values, metrics, reasons and of the sweep itself are `NASTY`, and numbers are at their limits."""
    numbers = [1e308, -1e308, 5e-324, 0.0, "inf", "-inf", "nan", 0.5, 0.6, 0.7, 0.8, 0.9]
    trials = []
    for index in range(24):
        params: dict[str, Any] = {text: NASTY[(index + place) % len(NASTY)] for place, text in enumerate(NASTY[:5])}
        params |= {"constructor": numbers[index % 4], "__proto__": index, NASTY[5]: [index % 3, {"a": "<b>"}]}
        params |= {"mixed": [None, True, "1", 1.5][index % 4], "same": 3.0}
        if index % 2:
            params["sometimes"] = 10.0 ** -(index % 7)
        values = [numbers[(index + epoch) % len(numbers)] for epoch in range(3)]
        metrics = {NASTY[2]: 1e308, NASTY[0]: "nan", "val/accuracy": 0.5}
        state = ["completed", "stopped", "diverged", "failed"][index % 4]
        trials.append(
            {
                "params": params,
                "values": values,
                "state": state,
                "reason": NASTY[index % len(NASTY)],
                "metrics": metrics,
            }
            | {"more": {NASTY[0]: 0.1 * index, NASTY[3]: "nan", "train/accuracy": 1.0}}
        )
    return sweep_of(folder, trials, name=NASTY[0])
