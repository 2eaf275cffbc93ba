"""Interactions against a design whose answer is known, and against statsmodels' numbers by hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from orchestrator.analysis.interactions import _critical, _omega_squared, interactions
from orchestrator.journal.record import read_sweep
from tests.analysis.records import a_record
from tests.simulated import simulated_sweep


def test_keys_whose_best_values_depend_on_each_other_are_found(tmp_path: Path) -> None:
    """The learning rate has its optimum at 0.1 for sgd and 0.003 for adam; nothing depends on the batch size."""
    found = interactions(read_sweep(simulated_sweep(tmp_path / "sim-00000000", trials=300, epochs=6)))
    assert {found[0].key_a, found[0].key_b} == {"optimizer", "optimizer.lr"}
    assert found[0].strength > 0.1
    assert all(one.strength < 0.05 for one in found if "batch_size" in (one.key_a, one.key_b))


def test_what_adds_up_does_not_interact_and_what_is_crossed_does() -> None:
    draw = random.Random(0)

    def sweep(value: Any) -> list[Any]:
        keys = [(draw.choice("ab"), draw.choice("xyz")) for _ in range(90)]
        trials = [{"params": {"p": p, "q": q}, "value": value(p, q) + draw.gauss(0, 0.3)} for p, q in keys]
        return interactions(a_record(trials))

    assert sweep(lambda p, q: (p == "a") + "xyz".index(q)) == []
    (crossed,) = sweep(lambda p, q: 2.0 * ((p == "a") == (q == "x")) + (q == "y"))
    assert crossed.strength > 0.3
    assert crossed.n == 90


def test_omega_squared_by_hand() -> None:
    """2 x 2, two of each: cells 0, 0, 0 and 4 on average. SS of the interaction 8, of the error 4 x 0.5 = 2, total 26."""
    a, b = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 0, 0, 1, 1])
    y = np.array([-0.5, 0.5, -0.5, 0.5, -0.5, 0.5, 3.5, 4.5])
    repeated = 3  # above the fewest a cell; sums of squares triple: 24, 6, 78; error has 24 - 4 degrees of freedom
    noise = 6 / 20
    expected = (24 - noise) / (78 + noise)
    found = _omega_squared(np.tile(a, repeated), np.tile(b, repeated), np.tile(y, repeated))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("degrees", [1, 2, 6, 9])
def test_the_critical_value_is_about_that_of_f(degrees: int) -> None:
    assert _critical(degrees) == pytest.approx(stats.f.ppf(0.95, degrees, 10_000), rel=0.03)


def test_too_few_configurations_say_nothing() -> None:
    draw = random.Random(0)
    trials = [{"params": {"p": draw.choice("abc"), "q": draw.choice("xyz")}, "value": draw.random()} for _ in range(12)]
    assert interactions(a_record(trials)) == []
    assert interactions(a_record([])) == []
