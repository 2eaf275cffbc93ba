"""`orchestrator.results` and `orchestrator.epochs`: a sweep as pandas frames with real types, for a notebook."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.tables import EPOCH_COLUMNS, TRIAL_COLUMNS, epoch_rows, trial_rows
from orchestrator.base.records import State
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import SweepRecord, read_sweep
from orchestrator.space.domains import spell

if TYPE_CHECKING:
    import pandas as pd

FRACTIONS = ("value", "seconds")
TEXT = ("name", "reason")
TIMES = ("began", "ended", "time")


def results(name: str, runs_dir: str | Path = "runs") -> pd.DataFrame:
    """The trials of a sweep, one row each, by number; those that still run, too.

    Whole numbers are nullable `Int64`, other numbers `float64`, states a category, times `datetime64[ms, UTC]`. A searched key is
    `params.<key>`: numbers, true and false, or `string`; a trial for which it was not searched has a missing value.
    `frame.attrs` names the sweep, its metric and its mode.

        frame = orchestrator.results("digits")
        frame.sort_values("rank").head()
        frame.groupby("params.norm")["value"].agg(["count", "max", "median"])

    Args:
        name: the sweep's name (the newest of that name), or its name with the id.
        runs_dir: the folder of the sweeps.

    Raises:
        ConfigError: there is no such sweep.
        NotReadyError: its journal cannot be read.

    Columns:
    """
    record = read_sweep(find_sweep(Path(runs_dir), name))
    return _frame(trial_rows(record), TRIAL_COLUMNS, record)


def epochs(name: str, runs_dir: str | Path = "runs") -> pd.DataFrame:
    """The epochs of a sweep's trials, one row each, by trial and epoch; types, arguments and errors as of `results`.

        curves = orchestrator.epochs("digits").pivot(index="epoch", columns="trial", values="val/accuracy")
        curves.plot()

    Columns, before one for each metric (`val/accuracy`, `train/loss`, `lr`, ...):
    """
    record = read_sweep(find_sweep(Path(runs_dir), name), keep_epochs=True)
    return _frame(list(epoch_rows(record)), EPOCH_COLUMNS, record)


def _documented(columns: Mapping[str, str]) -> str:
    width = max(map(len, columns))
    return "".join(f"        {name.ljust(width)}  {text}\n" for name, text in columns.items())


_REST = {
    "params.<key>": "the searched value, a column for each searched key",
    "metrics.<name>": "of the test at the end of the trial: `metrics.test/accuracy`",
}
results.__doc__ = f"{results.__doc__}\n{_documented({**TRIAL_COLUMNS, **_REST})}"
epochs.__doc__ = f"{epochs.__doc__}\n{_documented(EPOCH_COLUMNS)}"


def _frame(rows: Sequence[Mapping[str, Any]], fixed: Mapping[str, str], record: SweepRecord) -> pd.DataFrame:
    import pandas as pd

    columns = dict.fromkeys([*fixed, *(name for row in rows for name in row)])
    series = {name: _column(name, [row.get(name) for row in rows]) for name in columns}
    frame = pd.DataFrame(series, columns=list(columns))
    opened = record.opened
    frame.attrs.update(sweep=opened.uid, metric=opened.metric, mode=opened.mode)
    return frame


def _column(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    import pandas as pd

    if name == "state":
        return pd.Series(pd.Categorical(values, categories=[state.value for state in State]))
    if name in TIMES:
        return _times(values)
    if name in TEXT:
        return pd.Series(values, dtype="string")
    if name in {*TRIAL_COLUMNS, *EPOCH_COLUMNS} - {*FRACTIONS}:
        return _numbers(values, whole=True)
    return _searched(values) if name.startswith("params.") else _numbers(values)


def _searched(values: Sequence[Any]) -> pd.Series[Any]:
    """Numbers where all are, true and false where all are, else text, as it is typed on the command line."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        return _numbers(values, whole=kinds == {int})
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    return pd.Series([None if value is None else _text(value) for value in values], dtype="string")


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else spell(value)


def _numbers(values: Sequence[Any], *, whole: bool = False) -> pd.Series[Any]:
    import pandas as pd

    if whole and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pd.Series(values, dtype="Int64")
    return pd.Series([float("nan") if value is None else _float(value) for value in values], dtype="float64")


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _times(values: Sequence[int | None]) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    return pd.Series(np.array(values, dtype="datetime64[ms]")).dt.tz_localize("UTC")
