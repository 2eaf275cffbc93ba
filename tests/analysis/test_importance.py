"""Importance against Optuna's own evaluator, and against simulated sweeps in which the truth is known."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.analysis.importance import FEWEST, importances
from orchestrator.base.records import State
from orchestrator.journal.events import SweepResumed
from orchestrator.journal.record import read_sweep
from tests.analysis.records import a_plan, a_record, linear
from tests.simulated import simulated_sweep

LR = {"kind": "interval", "low": 1e-4, "high": 1.0, "log": True, "integer": False}


@pytest.mark.slow
def test_the_divergences_are_those_of_optuna(tmp_path: Path) -> None:
    """Conditions, logarithms, choices, numbers as choices, and trials that diverged: Optuna is told the same by hand."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.importance import PedAnovaImportanceEvaluator

    record = read_sweep(simulated_sweep(tmp_path / "sim-00000000", trials=120, epochs=6))
    distributions = {
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "optimizer.lr": FloatDistribution(1e-4, 10, log=True),
        "norm": CategoricalDistribution(["none", "batch", "layer"]),
        "init.scale": FloatDistribution(1e-2, 10, log=True),
        "batch_size": CategoricalDistribution([32, 64, 128]),
        "optimizer.momentum": FloatDistribution(0, 0.99),
    }
    study = optuna.create_study(direction="maximize")
    for trial in record.trials.values():
        worst = trial.state in (State.DIVERGED, State.INFEASIBLE)
        if trial.value is None and not worst:
            continue
        own = {key: distributions[key] for key in trial.params}
        study.add_trial(
            optuna.trial.create_trial(params=trial.params, distributions=own, value=-1.0 if worst else trial.value)
        )
    n = len(study.trials)
    values = sorted((trial.value for trial in study.trials), reverse=True)
    share = sum(value >= values[29] for value in values) / n
    theirs = PedAnovaImportanceEvaluator(target_quantile=30 / n).evaluate(study)
    ours = {one.key: one.divergence * share**2 for one in importances(record)}
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "domain",
    [
        {"kind": "interval", "low": 1, "high": 200, "log": True, "integer": True},
        {"kind": "interval", "low": 3, "high": 9, "log": False, "integer": True},
        {"kind": "range", "start": 0, "stop": 120, "step": 2},
    ],
)
def test_whole_numbers_are_those_of_optuna_too(domain: dict[str, Any]) -> None:
    import optuna
    from optuna.distributions import IntDistribution
    from optuna.importance import PedAnovaImportanceEvaluator

    if domain["kind"] == "range":
        distribution = IntDistribution(0, 118, step=2)
    else:
        distribution = IntDistribution(domain["low"], domain["high"], log=domain["log"])
    low, high = distribution.low, distribution.high
    study = optuna.create_study(direction="minimize")
    trials = []
    for place in range(50):
        value = low + (high - low) * place // 98 * 2
        loss = abs(value - low - 2) + place * 37 % 11 / 100
        trials.append({"params": {"a": value}, "value": loss})
        study.add_trial(optuna.trial.create_trial(params={"a": value}, distributions={"a": distribution}, value=loss))
    (ours,) = importances(a_record(trials, [{"key": "a", "domain": domain}], mode="min"))
    theirs = PedAnovaImportanceEvaluator(target_quantile=0.5).evaluate(study)
    losses = sorted(trial["value"] for trial in trials)
    share = sum(loss <= losses[24] for loss in losses) / 50
    assert ours.divergence * share**2 == pytest.approx(theirs["a"], rel=1e-6)


def test_the_known_truth_of_a_simulated_sweep(tmp_path: Path) -> None:
    found = importances(read_sweep(simulated_sweep(tmp_path / "sim-00000000", trials=400, epochs=6)))
    assert [one.key for one in found[:2]] == ["optimizer.lr", "norm"]
    by_key = {one.key: one for one in found}
    assert by_key["optimizer.lr"].share > 0.4
    assert by_key["optimizer.lr"].beyond_chance
    assert by_key["batch_size"].share < 0.02
    assert not by_key["batch_size"].beyond_chance
    assert sum(one.share for one in found) == pytest.approx(1)


def test_what_matters_comes_first_whether_high_or_low_is_better() -> None:
    for mode in ("max", "min"):
        first = importances(a_record(linear(), mode=mode))[0]
        assert (first.key, first.beyond_chance) == ("a", True)
        assert first.share > 0.9


def test_trials_that_diverged_count_as_the_worst() -> None:
    """Above 0.5 everything diverges, below nothing matters: `a` is what it takes."""
    trials = [
        {"params": {"a": place / 40}, "value": 0.9 + place % 2 / 100}
        if place < 20
        else {"params": {"a": place / 40}, "state": State.DIVERGED}
        for place in range(40)
    ]
    (found,) = importances(a_record(trials))
    assert (found.n, found.beyond_chance) == (40, True)


def test_where_most_stay_at_chance_the_best_are_those_that_do_not() -> None:
    """Only scales near 1 train at all, as in a sweep of weight scales; the other 34 of 40 tie."""
    trials = [{"params": {"scale": place / 20}, "value": 0.9 if 17 <= place < 23 else 0.1} for place in range(40)]
    (found,) = importances(a_record(trials))
    assert found.beyond_chance


def test_nothing_is_said_of_too_few_of_ties_or_of_noise() -> None:
    assert importances(a_record([])) == []
    assert importances(a_record(linear(FEWEST - 1))) == []
    assert importances(a_record([{**trial, "value": 0.5} for trial in linear()])) == []
    assert importances(a_record([{**trial, "state": State.FAILED, "value": None} for trial in linear()])) == []
    assert importances(a_record([{"params": {"a": 0.1}, "value": place / 20} for place in range(20)])) == []
    draw = random.Random(0)
    noise = [{"params": {"a": draw.random()}, "value": draw.random()} for _ in range(40)]
    assert importances(a_record(noise)) == []


def test_chance_seldom_makes_a_key_matter() -> None:
    """60 keys of pure noise: about one in twenty is taken for beyond chance; 97 % of such counts are at most 6."""
    draw = random.Random(1)
    hits = 0
    for _ in range(20):
        trials = [{"params": {key: draw.random() for key in "abc"}, "value": draw.random()} for _ in range(24)]
        hits += sum(one.beyond_chance for one in importances(a_record(trials)))
    assert hits <= 6


def test_repeats_are_one_configuration_of_their_mean() -> None:
    """Each configuration three times: the same importance, and no more configurations."""
    single = linear()
    tripled = [
        {**trial, "value": trial["value"] + noise, "config_index": number, "repeat": repeat}
        for number, trial in enumerate(single)
        for repeat, noise in enumerate((-0.2, 0.0, 0.2))
    ]
    ours = importances(a_record(tripled))
    assert [(one.key, one.n) for one in ours] == [(one.key, one.n) for one in importances(a_record(single))]
    assert ours[0].divergence == pytest.approx(importances(a_record(single))[0].divergence)


def test_a_resume_may_search_other_keys_from_other_domains() -> None:
    """`a` is narrowed after 20 trials, `b` begins then: each trial counts by the domain that it was drawn from."""
    first = [{"params": {"a": 10 ** (-4 * place / 20)}, "value": place / 20} for place in range(20)]
    later = [{"params": {"a": 0.5 + place / 40, "b": place % 2 == 0}, "value": place / 20} for place in range(20)]
    record = a_record(first + later, [{"key": "a", "domain": LR}])
    narrow = {"kind": "interval", "low": 0.5, "high": 1.0, "log": False, "integer": False}
    wider = [{"key": "a", "domain": narrow}, {"key": "b", "domain": {"kind": "choice", "values": [True, False]}}]
    record.resumes.append(SweepResumed(plan=a_plan(wider), first_config_index=20))
    found = {one.key: one for one in importances(record)}
    assert (found["a"].n, found["b"].n) == (40, 20)
    assert found["a"].beyond_chance


def test_a_key_with_values_of_several_types_and_a_damaged_plan_are_no_obstacle() -> None:
    trials = [
        {**trial, "params": {**trial["params"], "d": [1, "x", None, True][place % 4]}}
        for place, trial in enumerate(linear())
    ]
    record = a_record(trials)
    assert record.opening is not None
    record.opening = dataclasses.replace(record.opening, plan='{"space": 3}')
    found = importances(record)
    assert found[0].key == "a"
    assert {one.key for one in found} == set("abcd")


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324])
def test_extreme_values_do_not_break_it(value: float) -> None:
    trials = [{**trial, "value": value if place % 5 else place} for place, trial in enumerate(linear())]
    assert all(math.isfinite(one.share) for one in importances(a_record(trials)))
