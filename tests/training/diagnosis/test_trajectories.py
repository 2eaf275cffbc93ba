"""The claims of experiment E09 that are about whole trajectories; those about single rules are in `optimizers/test_lectures`."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from orchestrator.training.diagnosis.trajectories import (
    PLATEAU,
    SADDLE,
    STEPS,
    SURFACES,
    Method,
    descent,
    methods,
    noisy,
    noisy_methods,
    quadratic,
    trajectories,
    trajectory,
)

METHODS = {method.name: method for method in methods()}


def test_descent_overshoots_at_13_and_diverges_at_16() -> None:
    """eps l < 2: y changes sign at all 9 steps and converges; at 16 the value grows from 12.5 to 385 in 9 steps."""
    at_13 = trajectory(quadratic(13), METHODS["gradient descent"])
    ys = [y for _, y in at_13.points[:10]]
    assert all(one * other < 0 for one, other in itertools.pairwise(ys))
    assert at_13.steps is not None
    at_16 = trajectory(quadratic(16), METHODS["gradient descent"])
    assert at_16.values[0] == 12.5
    assert at_16.values[9] == pytest.approx(385, abs=1)
    assert at_16.steps is None


def test_momentum_does_not_diverge_at_16() -> None:
    values = trajectory(quadratic(16), METHODS["momentum 0.9"]).values
    assert values[200] < 1e-2 * values[0]


@pytest.mark.parametrize("curvature", [5, 13, 16])
def test_rmsprop_has_one_value_after_15_steps_whatever_the_curvature(curvature: float) -> None:
    assert trajectory(quadratic(curvature), METHODS["RMSprop"]).values[15] == pytest.approx(0.1622, abs=1e-4)


def test_rmsprop_takes_86_steps_to_stay_below_1_per_cent() -> None:
    assert trajectory(quadratic(13), METHODS["RMSprop"]).steps == 86


def test_newton_takes_one_step() -> None:
    assert [trajectory(surface, METHODS["Newton"], 3).steps for surface in SURFACES[:3]] == [1, 1, 1]


def test_momentum_and_rmsprop_leave_a_saddle_before_descent() -> None:
    steps = {name: trajectory(SADDLE, METHODS[name]).steps for name in ("gradient descent", "momentum 0.9", "RMSprop")}
    descent, momentum, rmsprop = steps.values()
    assert descent is not None
    assert momentum is not None
    assert rmsprop is not None
    assert momentum < descent
    assert rmsprop < descent
    # y grows by 1 + eps a step: 1e-3 * 1.14^n > 1 from n = 53 on
    assert descent == 53


def test_steps_to_the_pit_of_the_plateau_are_counted_to_the_first_point_in_it() -> None:
    way = trajectory(PLATEAU, METHODS["sign"])
    # from (-3, 1) by 0.14 a step in each coordinate: x is within 0.5 after 18 steps, y then swings around 0
    assert way.steps == 18
    assert len(way.points) == PLATEAU.shown + 1
    assert len(way.values) == STEPS + 1


def test_momentum_under_noise() -> None:
    """At an equal rate it spreads more than descent; at an equal effective step no more than a tenth more, and smoothly."""
    found = {one.method: one for one in map(noisy, noisy_methods()[:3])}
    plain, equal, effective = found.values()
    assert equal.spread > 1.5 * plain.spread
    assert effective.spread <= 1.1 * plain.spread
    assert effective.roughness < plain.roughness


def test_the_spread_of_descent_under_noise_is_that_of_its_stationary_law() -> None:
    """x <- (1 - eps l) x - eps n has the variance eps / (l (2 - eps l)); 20 ways of 100 correlated steps, so within 10 %."""
    eps = 0.07
    variance = sum(eps / (bend * (2 - eps * bend)) for bend in (1.0, 13.0))
    assert noisy(noisy_methods()[0]).spread == pytest.approx(variance**0.5, rel=0.1)


def test_descent_on_a_quadratic_is_a_power_in_each_coordinate() -> None:
    for step, (x, y) in enumerate(descent(quadratic(5), METHODS["gradient descent"], 30), 1):
        assert (x, y) == pytest.approx((-3 * (1 - 0.14) ** step, (1 - 0.14 * 5) ** step))


def test_a_single_thread_computes_the_few_numbers_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()

    def seen(x: Any, y: Any) -> Any:
        used.add(torch.get_num_threads())
        return x * x + y * y

    monkeypatch.setattr("orchestrator.training.diagnosis.trajectories.SURFACES", (replace(SADDLE, function=seen),))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trajectories()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert used == {1}


def test_a_method_that_diverges_ends_where_numbers_end() -> None:
    way = trajectory(quadratic(16), Method("descent", METHODS["gradient descent"].make, 10.0))
    assert len(way.values) < STEPS
    assert way.steps is None
