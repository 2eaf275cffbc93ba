"""Records of sweeps that never ran, for tables worked out by hand."""

from __future__ import annotations

import json
import random
from typing import Any

from orchestrator.base.records import State
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.record import Scores, SweepRecord, TrialRecord


def a_record(
    trials: list[dict[str, Any]],
    space: list[dict[str, Any]] | None = None,
    *,
    metric: str = "val/accuracy",
    mode: str = "max",
    val: int | None = None,
) -> SweepRecord:
    """Ended trials: `params`, and `value`, `state`, `config_index` or `repeat` where they matter.

    Args:
        val: number of the validation examples.
    """
    plan = "" if space is None and val is None else a_plan(space or [], val)
    opening = SweepOpened(
        uid="s-00000000",
        name="s",
        metric=metric,
        mode=mode,
        trials=len(trials),
        folder=".",
        plan=plan,
        tracking={"kind": "none"},
    )
    record = SweepRecord(opening=opening, plan=plan, scores=Scores(mode))
    assert record.scores
    for index, given in enumerate(trials):
        trial = TrialRecord(
            index=index,
            params=given["params"],
            config={},
            config_index=given.get("config_index", index),
            repeat=given.get("repeat", 0),
            suggested_ms=0,
            value=given.get("value"),
            state=given.get("state", State.COMPLETED),
            reason=given.get("reason"),
            error=given.get("error"),
        )
        record.trials[index] = trial
        record.scores.add(trial.config_index, index, trial.state, trial.value)
    return record


def a_plan(space: list[dict[str, Any]], val: int | None = None) -> str:
    """A plan as JSON with this space."""
    base = {"choices": {}, "model": {}, "data": {}, "epochs": 1, "seed": 0, "metric": "val/accuracy", "mode": "max"}
    choices = {"optimizer": {"sgd": {}, "adam": {}}}
    keys = [{"key": one["key"], "domain": one["domain"], "conditions": one.get("conditions", [])} for one in space]
    return json.dumps(
        {"settings": {}, "base": base, "choices": choices, "space": keys, "facts": {"val": val} if val else {}}
    )


def linear(n: int = 40) -> list[dict[str, Any]]:
    """The value grows with `a`; `b` and `c` have nothing to do with it."""
    draw = random.Random(0)
    return [
        {"params": {"a": place / n, "b": draw.random(), "c": draw.choice("xyz")}, "value": place / n}
        for place in range(n)
    ]
