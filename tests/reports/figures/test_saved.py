"""Epochs and seconds that early stopping saved."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from orchestrator.reports.data import load
from orchestrator.reports.figures.saved import Saved, epoch_seconds, figure, savings, survival
from tests.reports.made import sweep, trial
from tests.simulated import simulated_sweep


def test_by_hand() -> None:
    data = sweep(
        trial(0, 0.9, curve=[0.5] * 10),
        trial(1, 0.4, "stopped", curve=[0.1] * 3),
        trial(2, None, "diverged", curve=[0.1]),
        trial(3, None, "running", curve=[0.1] * 2),
    )
    assert savings(data.record) == [Saved(1, 3, 7, 7.0)]
    rows = pd.DataFrame(survival(data.record)).set_index(["epoch", "way"])["trials"]
    assert rows.loc[1].to_dict() == {"trained": 3}
    assert rows.loc[3].to_dict() == {"trained": 2, "diverged": 1}
    assert rows.loc[4].to_dict() == {"trained": 1, "stopped": 1, "diverged": 1}
    found = figure(data)
    assert found is not None
    assert found.text.startswith(
        "Stopping 1 of 3 trials saved 7 of 30 epochs (23%), about 7 s of training beside the 14 s"
    )


def test_an_epoch_after_a_break_counts_from_the_new_beginning() -> None:
    one = trial(0, 0.5, curve=[0.1, 0.2, 0.3], began=[0])
    one.epochs[2]["time_ms"] = 61_500  # epochs end at 1 s, 2 s, and, after a break, 61.5 s
    one.began_ms.append(60_000)
    assert epoch_seconds(one) == [1.0, 1.0, 1.5]


def test_areas_are_the_epochs_of_the_simulation(tmp_path: Path) -> None:
    data = load(simulated_sweep(tmp_path / "sim-00000000", trials=80, epochs=20))
    rows = pd.DataFrame(survival(data.record)).groupby("way")["trials"].sum()
    trials = pd.DataFrame(data.trials)
    assert rows.sum() == 80 * 20
    assert rows["trained"] == trials["epochs"].sum()
    stopped = trials[trials.state == "stopped"]
    assert rows["stopped"] == 15 * len(stopped) == sum(one.epochs for one in savings(data.record))
    # an epoch of the simulation takes 40 ms and a quarter of a millisecond for each image of a batch
    expected = {row.trial: 15 * (40 + row._asdict()["batch"] // 4) / 1000 for row in batches(stopped)}
    assert {one.trial: one.seconds for one in savings(data.record)} == pytest.approx(expected)


def batches(stopped: pd.DataFrame) -> list[tuple]:
    return list(stopped.rename(columns={"params.batch_size": "batch"})[["trial", "batch"]].itertuples())


def test_where_nothing_was_stopped_there_is_no_figure() -> None:
    assert figure(sweep(trial(0, 0.5, curve=[0.1] * 3))) is None
    assert figure(sweep()) is None
