"""Sweeps made trial by trial, for figures: a record as a journal would give it, with nothing on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.records import State
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.parts import FileRecord
from orchestrator.journal.record import Scores, SweepRecord, TrialRecord
from orchestrator.reports.data import SweepData, sweep_data

SECOND = 1000


def trial(
    index: int,
    value: float | None = None,
    state: str = "completed",
    *,
    params: Mapping[str, Any] | None = None,
    curve: Sequence[float | None] = (),
    planned: int = 10,
    began: Sequence[int] = (0,),
    broke_off: Sequence[int] = (),
    ended: int | None = 10 * SECOND,
    repeat: int = 0,
    config_index: int | None = None,
    judged: bool = False,
    reason: str | None = None,
    error: str | None = None,
    retries: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    artifacts: Sequence[FileRecord] = (),
) -> TrialRecord:
    """A trial whose epochs end one second after another from its last beginning.

    Args:
        curve: the objective, one an epoch.
        began, broke_off, ended: milliseconds.
    """
    first = began[-1] if began else 0
    epochs = [
        {"epoch": place, "time_ms": first + place * SECOND, "metrics": {} if one is None else {"val/accuracy": one}}
        for place, one in enumerate(curve, 1)
    ]
    return TrialRecord(
        index=index,
        params=dict(params or {}),
        config={"epochs": planned, "seed": index, **(config or {})},
        config_index=index if config_index is None else config_index,
        repeat=repeat,
        suggested_ms=first,
        judged=judged,
        attempts=list(range(1, len(began) + 1)),
        began_ms=list(began),
        broke_off_ms=list(broke_off),
        epoch=len(epochs),
        epochs=epochs,  # type: ignore[arg-type]
        value=value,
        best_epoch=None if value is None else max(len(epochs), 1),
        retries=list(retries),
        state=State(state),
        reason=reason,
        error=error,
        ended_ms=ended if state != "running" else None,
        artifacts=list(artifacts),
    )


def sweep(
    *trials: TrialRecord,
    space: Sequence[Mapping[str, Any]] = (),
    metric: str = "val/accuracy",
    mode: str = "max",
    facts: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    sessions: Sequence[tuple[int, int]] = (),
    session_ms: int = 0,
    last_ms: int = 0,
    folder: Path = Path("nowhere"),
) -> SweepData:
    """The data of a sweep of these trials.

    Args:
        space: parameters as a plan has them: `{"key", "domain", "conditions"}`.
        facts: of planning.
    """
    opening = SweepOpened("s-00000000", "s", metric, mode, len(trials), ".", "", tracking={})  # type: ignore[arg-type]
    if scheduler:
        object.__setattr__(opening, "scheduler", scheduler)
    object.__setattr__(opening, "config", {"epochs": 10})
    choices = {one["key"]: {value: {} for value in one["domain"].get("values", ())} for one in space}
    base = {"epochs": 10, "seed": 0, "metric": metric, "mode": mode}
    plan = {"settings": {}, "base": base, "choices": choices, "space": list(space), "facts": dict(facts or {})}
    record = SweepRecord(keep_epochs=True, opening=opening, opened_ms=0, plan=json.dumps(plan), scores=Scores(mode))
    record.sessions, record.session_ms = list(sessions), session_ms
    record.last_ms = last_ms or max((one.ended_ms or 0 for one in trials), default=0)
    assert record.scores is not None
    for one in trials:
        record.trials[one.index] = one
        if one.ended:
            record.scores.add(one.config_index, one.index, one.state, one.value, judged=one.judged)
    return sweep_data(record, folder)


def log_number(key: str, low: float, high: float) -> dict[str, Any]:
    """A number that is searched by factors, as a plan has it."""
    domain = {"kind": "interval", "low": low, "high": high, "log": True, "integer": False}
    return {"key": key, "domain": domain, "conditions": []}


def choice(key: str, *values: Any) -> dict[str, Any]:
    """A choice, as a plan has it."""
    return {"key": key, "domain": {"kind": "choice", "values": list(values)}, "conditions": []}
