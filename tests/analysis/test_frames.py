"""Frames of a sweep: their types, their numbers against the journal's, unfinished sweeps, strange values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import orchestrator
from orchestrator.analysis.frames import _frame
from orchestrator.analysis.tables import EPOCH_COLUMNS, TRIAL_COLUMNS, trial_rows
from orchestrator.base.errors import ConfigError
from orchestrator.base.records import State
from orchestrator.journal.record import read_sweep
from tests.analysis.records import a_record
from tests.simulated import START_MS, simulated_sweep


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    simulated_sweep(folder / "sim-00000000", trials=40, epochs=8)
    return folder


def test_columns_have_real_types(runs: Path) -> None:
    types = {name: str(dtype) for name, dtype in orchestrator.results("sim", runs_dir=runs).dtypes.items()}
    assert types == {
        **dict.fromkeys(["trial", "rank", "best_epoch", "epochs", "epochs_planned", "config_index"], "Int64"),
        **dict.fromkeys(["repeat", "seed", "attempts", "params.batch_size"], "Int64"),
        **dict.fromkeys(["name", "reason", "params.optimizer", "params.norm"], "string"),
        **dict.fromkeys(["value", "seconds", "params.optimizer.lr", "params.init.scale"], "float64"),
        **dict.fromkeys(["params.optimizer.momentum", "metrics.test/accuracy", "metrics.test/loss"], "float64"),
        **dict.fromkeys(["began", "ended"], "datetime64[ms, UTC]"),
        "state": "category",
    }


def test_numbers_are_those_of_the_journal(runs: Path) -> None:
    frame = orchestrator.results("sim", runs_dir=runs)
    record = read_sweep(runs / "sim-00000000")
    assert frame["value"].max() == record.closed.best["value"]  # type: ignore[union-attr, index]
    assert frame["state"].value_counts().to_dict() == {
        state.value: sum(trial.state == state for trial in record.trials.values()) for state in State
    }
    first = frame.loc[frame["trial"] == 0].iloc[0]
    assert first["began"] == pd.Timestamp(START_MS + 5, unit="ms", tz="UTC")
    assert frame.attrs == {"sweep": "sim-00000000", "metric": "val/accuracy", "mode": "max"}


def test_epochs_pivot_to_curves_whose_best_is_the_trials_value(runs: Path) -> None:
    trials, curves = orchestrator.results("sim", runs_dir=runs), orchestrator.epochs("sim", runs_dir=runs)
    assert {name: str(curves[name].dtype) for name in EPOCH_COLUMNS} == {
        "trial": "Int64",
        "epoch": "Int64",
        "time": "datetime64[ms, UTC]",
    }
    best = curves.groupby("trial")["val/accuracy"].max()
    ended = trials[trials["value"].notna()].set_index("trial")["value"]
    pd.testing.assert_series_equal(best[ended.index], ended, check_names=False)


def test_every_column_is_documented() -> None:
    assert all(f"        {name} " in str(orchestrator.results.__doc__) for name in TRIAL_COLUMNS)
    assert all(f"        {name} " in str(orchestrator.epochs.__doc__) for name in EPOCH_COLUMNS)


def test_no_trials_running_trials_and_mixed_values_keep_the_types() -> None:
    values: list[Any] = [3, "x", None, True, 0.5, [1, 2], {"a": 1}]
    trials = [{"params": {"mixed": value, "flag": bool(place)}, "value": None} for place, value in enumerate(values)]
    record = a_record([*trials, {"params": {}, "state": State.RUNNING, "value": 10**400}])
    record.trials[0].config["seed"] = 2**64
    frame = _frame(trial_rows(record), TRIAL_COLUMNS, record)
    assert str(frame["params.flag"].dtype) == "boolean"
    assert frame["params.mixed"].fillna("missing").tolist() == [
        *("3", "x", "missing", "true", "0.5", "[1, 2]", '{"a": 1}', "missing")
    ]
    assert frame["seed"].max() == 2.0**64
    assert frame["rank"].isna().all()
    empty = a_record([])
    assert {str(dtype) for dtype in _frame([], TRIAL_COLUMNS, empty).dtypes} == {
        *("Int64", "string", "category", "float64", "datetime64[ms, UTC]")
    }


def test_an_unknown_name_gets_the_nearest(runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"no sweep of that name in .*did you mean sim-00000000\?"):
        orchestrator.results("smi-00000000", runs_dir=runs)
