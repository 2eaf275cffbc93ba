"""What guessing comes to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.reports.parts.chance import chance_level, chance_of, guess, vanished
from tests.reports.made import sweep, trial


def test_guessing_by_hand() -> None:
    assert guess("val/accuracy", 10) == 0.1
    assert guess("val/top5_accuracy", 10) == 0.5
    assert guess("val/top5_accuracy", 4) == 1.0
    assert guess("val/loss", 10) == pytest.approx(math.log(10))
    assert chance_level("val/accuracy", 10, 900) == pytest.approx(0.1 + 3 * 0.01)
    assert chance_level("val/loss", 10, 900) == pytest.approx(0.98 * math.log(10))


def test_guessers_are_at_chance_and_a_learner_is_not() -> None:
    """Of 2,000 guessers of 287 images in ten classes one in a thousand or so is above the level."""
    accuracies = np.random.RandomState(0).binomial(287, 0.1, 2000) / 287
    level = chance_level("val/accuracy", 10, 287)
    assert (accuracies > level).mean() < 0.005
    assert not vanished(0.2, level, "max")


def test_a_sweep_whose_classes_are_unknown_has_no_level() -> None:
    assert chance_of(sweep().record) is None
    assert chance_of(sweep(facts={"num_classes": 1, "val": 9}).record) is None
    assert chance_of(sweep(facts={"num_classes": "ten", "val": 9}).record) is None
    assert chance_of(sweep(facts={"num_classes": 10, "val": 900}).record) == pytest.approx(0.13)
    assert not vanished(0.0, None, "max")
    assert not vanished(trial(0).value, 0.2, "max")
    assert vanished(2.3, 2.25, "min")
