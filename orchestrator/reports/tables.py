"""The tables that the page holds, as compact JSON: by column, rounded to what can be seen, repeated texts written once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.reports.data import SweepData, cut

Column = list[Any] | dict[str, list[Any]]
"""The values, or `{"texts": [...], "at": [...]}`: of each row the place of its text."""

PLAIN = (
    "trial",
    "rank",
    "value",
    "best_epoch",
    "epochs",
    "epochs_planned",
    "config_index",
    "repeat",
    "attempts",
    "seconds",
)
NAME_LENGTH = 100


def trial_table(sweep: SweepData) -> dict[str, Column]:
    """The table `trials`, as `SweepData` describes it."""
    rows, params = sweep.trials, [sweep.record.trials[row["trial"]].params for row in sweep.trials]
    opened_ms = sweep.record.opened_ms
    table: dict[str, Column] = {name: _numbers(row[name] for row in rows) for name in PLAIN}
    table["name"] = [cut(row["name"], NAME_LENGTH) for row in rows]
    table["state"] = _texts(row["state"] for row in rows)
    table["reason"] = _texts(row["reason"] for row in rows)
    table["seed"] = _texts(None if row["seed"] is None else str(row["seed"]) for row in rows)
    for name, source in (("began_s", "began"), ("ended_s", "ended")):
        table[name] = [None if row[source] is None else round((row[source] - opened_ms) / 1000, 2) for row in rows]
    for key in sweep.keys:
        values = [key.of(one) for one in params]
        table[key.field] = _texts(values) if key.kind == "choice" else _numbers(values)
    for test in sweep.tests:
        table[test.field] = _numbers(row[f"metrics.{test.name}"] for row in rows)
    return table


def epoch_table(sweep: SweepData, specs: str) -> dict[str, Column]:
    """The table `epochs` with those metrics that the specs, as JSON, name."""
    named = set(re.findall(r"\bm\d+\b", specs))
    opened_ms = sweep.record.opened_ms
    table: dict[str, Column] = {name: [row[name] for row in sweep.epochs] for name in ("trial", "epoch")}
    table["time_s"] = [round((row["time"] - opened_ms) / 1000, 1) for row in sweep.epochs]
    for metric in sweep.metrics:
        if metric.field in named:
            table[metric.field] = _numbers(row.get(metric.name) for row in sweep.epochs)
    return table


def to_json(value: object) -> str:
    """JSON that can stand in a script element: no text in it ends the element, and what is no finite number is null."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _numbers(values: Iterable[Any]) -> list[Any]:
    return [rounded(value) if isinstance(value, float) else value for value in values]


def rounded(value: float) -> float | int | None:
    """The number in six digits; None where it is not finite."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1e6 else short


def _texts(values: Iterable[Any]) -> Column:
    places: dict[Any, int] = {}
    at = [None if value is None else places.setdefault(cut(str(value), 200), len(places)) for value in values]
    return {"texts": list(places), "at": at}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
