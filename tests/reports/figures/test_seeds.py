"""Means of seeds with their intervals."""

from __future__ import annotations

import pytest
import scipy.stats

from orchestrator.reports.figures.seeds import figure, intervals, student_interval
from tests.reports.made import sweep, trial


@pytest.mark.parametrize(
    "values", [[0.9, 0.8], [0.91, 0.87, 0.93], [0.5 + place / 100 for place in range(40)], [0.7, 0.7]]
)
def test_the_interval_is_scipys(values: list[float]) -> None:
    mean, error = scipy.stats.tmean(values), scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else (mean, mean)
    assert student_interval(values) == pytest.approx((low, high), rel=1e-6)


def test_a_single_seed_has_none() -> None:
    assert student_interval([0.5]) is None


def test_the_seed_that_a_scheduler_judged_is_apart_and_the_best_mean_is_first() -> None:
    data = sweep(
        trial(0, 0.99, config_index=0, repeat=0, judged=True),
        trial(1, 0.70, config_index=0, repeat=1),
        trial(2, 0.80, config_index=0, repeat=2),
        trial(3, 0.85, config_index=1, repeat=0),
        trial(4, 0.95, config_index=1, repeat=1),
        trial(5, 0.99, config_index=2),
    )
    first, second = intervals(data.record)
    assert (first.config_index, first.trial, first.mean, first.selected) == (1, 3, pytest.approx(0.9), {})
    assert (second.mean, second.selected, second.counted) == (pytest.approx(0.75), {0: 0.99}, {1: 0.70, 2: 0.80})
    found = figure(data)
    assert found is not None
    assert found.text.startswith("2 configurations ran with several seeds; a bar is the 95 % interval of the mean.")
    assert "overlaps with those of 1 of the 1 others" in found.text


def test_of_a_loss_the_lowest_is_first() -> None:
    data = sweep(
        *[trial(place, 0.1 * place, config_index=place // 2) for place in range(4)], mode="min", metric="val/loss"
    )
    assert [one.config_index for one in intervals(data.record)] == [0, 1]


def test_without_repeats_there_is_no_figure() -> None:
    assert figure(sweep(trial(0, 0.5), trial(1, 0.6))) is None
    assert figure(sweep(trial(0, 0.5, config_index=0), trial(1, None, "failed", config_index=0))) is None


def test_names_of_strangers_are_data_and_not_expressions() -> None:
    evil = {"lr'] + alert(1) + ['": "</script>"}
    found = figure(sweep(*[trial(place, 0.5 + place, config_index=0, repeat=place, params=evil) for place in range(2)]))
    assert found is not None
    assert found.spec is not None
    axis = found.spec["encoding"]["y"]["axis"]
    assert "alert" not in axis["labelExpr"]
    names = next(one["value"] for one in found.spec["params"] if one["name"] == "configurations")
    assert "alert(1)" in names[0]
