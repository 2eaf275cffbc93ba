"""The moving average of the weights against torch's, and what a trial makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from orchestrator.base.records import Trial
from orchestrator.base.settings import settings_problems
from orchestrator.training.build import build_learner
from orchestrator.training.ema import MovingAverage
from orchestrator.training.evaluate import logits
from orchestrator.training.loop import train_epoch
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Trial]
NORM = {"_target_": "models.layers.norm.batch_norm"}


def decay_after(decay: float, updates: int) -> float:
    """TensorFlow's rule, written down once more."""
    return min(decay, (1 + updates) / (10 + updates))


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_it_is_torchs_average_with_tensorflows_warm_up(decay: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    def rule(average: torch.Tensor, now: torch.Tensor, count: Any) -> torch.Tensor:
        weight = decay_after(decay, int(count) - 1)
        return weight * average + (1 - weight) * now

    theirs = AveragedModel(net, avg_fn=rule, use_buffers=True)
    theirs.n_averaged += 1  # what it copies first is what ours begins with
    ours = MovingAverage(net, decay)
    for _ in range(6):
        net(torch.randn(8, 3)).sum().backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        theirs.update_parameters(net)
        ours.update()
    expected = theirs.module.state_dict()
    assert ours.state().keys() == {name for name, tensor in expected.items() if tensor.is_floating_point()}
    for name, average in ours.state().items():
        assert torch.allclose(average, expected[name], atol=1e-6), name


def test_the_weights_come_back_bit_for_bit() -> None:
    net = nn.Linear(3, 2)
    moving = MovingAverage(net, 0.5)
    with torch.no_grad():
        net.weight.mul_(3)
    moving.update()
    before, average = net.weight.clone(), moving.state()["weight"].clone()
    with moving.in_place():
        assert torch.equal(net.weight, average)
    assert torch.equal(net.weight, before)
    assert torch.equal(moving.state()["weight"], average)


def test_a_trial_is_scored_and_kept_with_the_average(trial: MakeTrial) -> None:
    """Replayed in this test: trained by the engine's step, averaged by hand, scored by the engine's evaluation."""
    changes: dict[str, Any] = {"ema_decay": 0.8, "norm": NORM, "epochs": 3}
    run = TrialRun(trial("kept", **changes))
    results = list(run)
    outcome = run.finish()

    learner = build_learner(trial("", **changes | {"ema_decay": None}).config)
    state = learner.model.state_dict()
    averages = {name: tensor.clone() for name, tensor in state.items()}
    count = 0

    def beat() -> None:
        nonlocal count
        weight = decay_after(0.8, count)
        count += 1
        for name, tensor in learner.model.state_dict().items():
            averages[name] = weight * averages[name] + (1 - weight) * tensor if tensor.is_floating_point() else tensor

    learner.beat = beat
    for epoch in range(1, 4):
        train_epoch(learner, epoch)
        own = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
        learner.model.load_state_dict(averages)
        split = learner.data.splits["val"]
        learner.beat = lambda: None
        accuracy = (logits(learner.model, split, channels_last=False).argmax(1) == split.labels).double().mean().item()
        learner.beat = beat
        assert results[epoch - 1].metrics["val/accuracy"] == pytest.approx(accuracy, abs=1e-9)
        if epoch == outcome.best_epoch:
            best = {name: tensor.clone() for name, tensor in averages.items()}
        learner.model.load_state_dict(own)
    kept = load_file(Path(run.trial.folder) / "best.safetensors")
    assert kept.keys() == best.keys()
    for name in best:
        assert torch.allclose(kept[name], best[name], atol=1e-5), name


def test_frozen_layers_are_not_averaged(trial: MakeTrial) -> None:
    transfer = {"_target_": "orchestrator.training.transfer.top_layers", "layers": 1}
    learner = build_learner(trial("", ema_decay=0.9, transfer=transfer).config)
    assert learner.moving is not None
    assert learner.moving.state().keys() == learner.whole.state_dict().keys() - learner.unchanging


def test_settings_are_checked() -> None:
    assert [problem.why for problem in settings_problems({"ema_decay": 1.0})] == ["must be at most 0.999999"]
    assert [problem.why for problem in settings_problems({"clip_grad_norm": 0.0})] == ["must be above 0"]
    assert settings_problems({"ema_decay": None, "clip_grad_norm": None}) == []
