"""Gradients are shortened as torch does it, and the length that is reported is that before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from orchestrator.base.records import Trial
from orchestrator.training.build import build_learner
from orchestrator.training.loop import train_epoch

MakeTrial = Callable[..., Trial]
SGD = {"_target_": "orchestrator.training.optimizers.sgd", "lr": 0.05, "momentum": 0.0}


def steps(trial: MakeTrial, **changes: Any) -> tuple[float, float]:
    """Of one step of gradient descent: how far the weights moved, over the learning rate, and the reported length."""
    learner = build_learner(trial("", optimizer=SGD, batch_size=90, **changes).config)
    learner.sizes = [90]
    before = torch.cat([p.detach().flatten() for p in learner.params])
    reported = train_epoch(learner, 1)["grad_norm"]
    after = torch.cat([p.detach().flatten() for p in learner.params])
    return (after - before).norm().item() / 0.05, reported


def test_longer_gradients_are_shortened_and_shorter_ones_stay(trial: MakeTrial) -> None:
    free, norm = steps(trial)
    assert free == pytest.approx(norm, rel=1e-4)
    short, reported = steps(trial, clip_grad_norm=norm / 4)
    assert (short, reported) == (pytest.approx(norm / 4, rel=1e-4), pytest.approx(norm, rel=1e-4))
    same, reported = steps(trial, clip_grad_norm=4 * norm)
    assert (same, reported) == (pytest.approx(norm, rel=1e-4), pytest.approx(norm, rel=1e-4))
