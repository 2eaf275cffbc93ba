"""How the order at an epoch agrees with the end."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from orchestrator.journal.record import read_sweep
from orchestrator.reports.figures.rungs import agreements, epochs_of, figure
from tests.reports.made import sweep, trial
from tests.simulated import simulated_sweep


def test_agreement_by_hand() -> None:
    """Trial 2 ends best and was last but one at epoch 2; of the two that were stopped there one was better than it."""
    data = sweep(
        trial(0, 0.5, curve=[0.1, 0.4, 0.5]),
        trial(1, 0.6, curve=[0.2, 0.5, 0.6]),
        trial(2, 0.9, curve=[0.3, 0.2, 0.9]),
        trial(3, 0.4, "stopped", curve=[0.1, 0.4]),
        trial(4, 0.2, "stopped", curve=[0.2, 0.2]),
        trial(5, None, "diverged", curve=[0.9]),
    )
    (second,) = agreements(data.record, [2])
    assert (second.n, second.place, second.stopped, second.above) == (3, 3, 2, 1)
    assert second.spearman == pytest.approx(scipy.stats.spearmanr([0.4, 0.5, 0.3], [0.5, 0.6, 0.9]).statistic)
    assert second.kendall == pytest.approx(scipy.stats.kendalltau([0.4, 0.5, 0.3], [0.5, 0.6, 0.9]).statistic)


def test_on_a_simulated_sweep_it_is_scipys(tmp_path: Path) -> None:
    record = read_sweep(simulated_sweep(tmp_path / "sim-00000000", trials=60, epochs=8, seed=2), keep_epochs=True)
    done = [t for t in record.trials.values() if t.state == "completed"]
    values = np.array([[epoch["metrics"]["val/accuracy"] for epoch in t.epochs] for t in done])
    ends = [t.value for t in done]
    found = agreements(record, range(1, 8))
    assert [one.epoch for one in found] == list(range(1, 8))
    for one in found:
        so_far = values[:, : one.epoch].max(axis=1)
        assert one.n == len(done)
        assert one.spearman == pytest.approx(scipy.stats.spearmanr(so_far, ends).statistic, abs=1e-12)
        assert one.kendall == pytest.approx(scipy.stats.kendalltau(so_far, ends).statistic, abs=1e-12)
    stopped = [t for t in record.trials.values() if t.state == "stopped"]
    assert found[4].stopped == len(stopped) > 0
    best = so_far_of_best(values, ends, 5)
    assert found[4].above == sum(max(e["metrics"]["val/accuracy"] for e in t.epochs) > best for t in stopped)


def so_far_of_best(values: np.ndarray, ends: list[float | None], epoch: int) -> float:
    best = max(range(len(ends)), key=lambda place: (ends[place], values[place, :epoch].max()))
    return float(values[best, :epoch].max())


def test_of_a_loss_low_is_good() -> None:
    data = sweep(
        *[trial(place, 1 - place / 9, curve=[0.9 - place / 10, 1 - place / 9]) for place in range(5)], mode="min"
    )
    (first,) = agreements(data.record, [1])
    assert (first.spearman, first.kendall, first.place) == (pytest.approx(1.0), pytest.approx(1.0), 1)


def test_hundreds_of_epochs_are_thinned_and_rungs_kept() -> None:
    assert epochs_of(5, [2]) == [1, 2, 3, 4]
    many = epochs_of(600, [7, 49, 343])
    assert {7, 49, 343} <= set(many)
    assert len(many) <= 63
    assert max(many) < 600


def test_too_few_and_equal_trials_have_no_figure() -> None:
    assert figure(sweep()) is None
    assert figure(sweep(*[trial(place, 0.5, curve=[0.1, 0.5]) for place in range(2)])) is None
    assert figure(sweep(*[trial(place, 0.5, curve=[0.5, 0.5]) for place in range(9)])) is None
    assert figure(sweep(*[trial(place, place / 9, curve=[place / 9]) for place in range(9)])) is None


def test_without_a_scheduler_it_says_from_which_epoch_on_the_order_holds() -> None:
    draw = random.Random(0)
    trials = [trial(place, place / 20, curve=[draw.random() / 100, place / 21, place / 20]) for place in range(12)]
    found = figure(sweep(*trials))
    assert found is not None
    assert found.title == "Could trials have been stopped early?"
    assert "From epoch 2 on" in found.text
