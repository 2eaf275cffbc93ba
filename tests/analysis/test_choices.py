"""Best, median and divergence of each choice, by hand."""

from __future__ import annotations

from orchestrator.analysis.choices import choices
from orchestrator.base.records import State
from tests.analysis.records import a_record


def test_each_choice_by_hand() -> None:
    found = choices(
        a_record(
            [
                {"params": {"norm": "batch", "lr": 0.1}, "value": 0.9},
                {"params": {"norm": "batch", "lr": 0.2}, "value": 0.7},
                {"params": {"norm": "batch", "lr": 0.3}, "state": State.DIVERGED},
                {"params": {"norm": "none", "lr": 0.4}, "value": 0.85},
                {"params": {"norm": "layer", "lr": 0.5}, "state": State.DIVERGED},
                {"params": {"norm": "none", "lr": 0.6}, "state": State.FAILED},
                {"params": {"norm": "none", "lr": 0.7}, "state": State.RUNNING, "value": 1.0},
            ]
        )
    )
    assert [(one.key, one.value, one.n, one.best, one.median, one.diverged) for one in found] == [
        ("norm", "none", 1, 0.85, 0.85, 0),
        ("norm", "batch", 3, 0.9, 0.8, 1),
        ("norm", "layer", 1, None, None, 1),
    ]
    assert found[1].diverged_share == 1 / 3


def test_the_lowest_is_best_where_less_is_better_and_repeats_count_once() -> None:
    trials = [
        {"params": {"depth": 2}, "value": 3.0, "config_index": 0},
        {"params": {"depth": 2}, "value": 5.0, "config_index": 0, "repeat": 1},
        {"params": {"depth": 3}, "value": 1.0, "config_index": 1},
        {"params": {"depth": 2}, "value": 2.0, "config_index": 2},
    ]
    found = choices(a_record(trials, mode="min"))
    assert [(one.value, one.n, one.best, one.median) for one in found] == [(3, 1, 1.0, 1.0), (2, 2, 2.0, 3.0)]


def test_true_and_one_are_two_choices() -> None:
    found = choices(a_record([{"params": {"x": value}, "value": 1.0} for value in (True, 1, None)]))
    assert len(found) == 3


def test_a_sweep_without_ended_trials_has_none() -> None:
    assert choices(a_record([])) == []
