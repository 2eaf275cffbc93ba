"""What the replay of a trial that diverged finds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.base.records import Divergence, Trial
from orchestrator.training import build as build_module
from orchestrator.training.divergence import story
from orchestrator.training.endings import Superseded
from orchestrator.training.trial import Diverged, TrialRun

MakeTrial = Callable[..., Trial]
SGD = "orchestrator.training.optimizers.sgd"


def diverged(given: Trial, *, saved: int = 0) -> tuple[Divergence, TrialRun, Diverged]:
    """The story of a trial that diverges, whose checkpoints up to an epoch were written."""
    run = TrialRun(given)
    while run.epoch < saved:
        next(run)
        run.save()
    with pytest.raises(
        Diverged, match=r"^the (loss|length of the gradient|validation loss) is (inf|-inf|nan) "
    ) as caught:
        list(run)
    return story(given, caught.value), run, caught.value


def test_a_huge_step_makes_the_next_layers_product_overflow(trial: MakeTrial) -> None:
    """After a step of 1e30 all weights are about 1e28: the first product is finite, the second is not."""
    told, _, error = diverged(trial(optimizer={"_target_": SGD, "lr": 1e30}))
    assert told == {
        "epoch": 1,
        "step": 2,
        "replayed": True,
        "steps": 7,
        "validation": False,
        "signal": "outputs",
        "layer": "3",
        "lr": 1e30,
        "last_good": (1, 1),
    }
    assert (error.epoch, error.step) == (1, 2)


def test_a_step_beyond_all_floats_spoils_the_weights_at_once(trial: MakeTrial) -> None:
    told, _, error = diverged(trial(optimizer={"_target_": SGD, "lr": 1e45}))
    assert (told["step"], told["signal"], told["last_good"]) == (1, "weights", None)
    assert error.step == 2  # where the loss shows it


# 1 - lr * decay = -5: the weights grow five times a step and more, with momentum
GROWS = {"_target_": SGD, "lr": 0.05, "weight_decay": 120.0}


@pytest.mark.parametrize("saved", [0, 2])
def test_it_is_found_from_the_last_checkpoint_or_the_start(
    trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, saved: int
) -> None:
    given = trial(optimizer=GROWS, epochs=20)
    trained: list[int] = []
    real = TrialRun._trained

    def counted(run: TrialRun, epoch: int) -> dict[str, float]:
        trained.append(epoch)
        return real(run, epoch)

    monkeypatch.setattr(TrialRun, "_trained", counted)
    told, run, error = diverged(given, saved=saved)
    epochs = run.epoch + 1
    assert epochs > 3
    assert trained == [*range(1, epochs + 1), *range(saved + 1, epochs + 1)]
    assert (told["epoch"], told["step"]) == (error.epoch, error.step)
    assert (told["signal"], told["lr"]) == ("loss", 0.05)  # finite logits, further apart than the largest float
    good = told["last_good"]
    assert good == ((error.epoch, error.step - 1) if error.step > 1 else (error.epoch - 1, 7))


def test_the_last_good_step_is_the_last_one_of_the_epoch_before(trial: MakeTrial) -> None:
    """A factor of 1e4 a step: two layers leave float32 after five steps more or less, whatever the epoch's length."""
    stories = [
        diverged(trial(f"of {size}", optimizer={**GROWS, "weight_decay": 2e5}, batch_size=size))[0]
        for size in (16, 32, 90)
    ]
    for told in stories:
        good = told["last_good"]
        assert good is not None
        counted = (told["epoch"] - 1) * told["steps"] + told["step"]
        assert (good[0] - 1) * told["steps"] + good[1] == counted - (not told["validation"])
    assert any(told["epoch"] > 1 for told in stories)


class Rooted(nn.Module):
    """The root has no finite slope at 0, where a feature of zeros puts it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.root, self.last = nn.Linear(64, 8), Root(), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.last(self.root(self.first(images.flatten(1))))
        return found


class Root(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return torch.where(values > 1e9, values, values - values).abs().sqrt()


class NanInValidation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.odd = nn.Linear(64, 4), Odd()

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.odd(self.linear(images.flatten(1)))
        return found


class Odd(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values if self.training else values * math.nan


def test_a_gradient_is_told_by_the_layer_that_it_leaves(trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "build_model", lambda *_: (Rooted(), False))
    told, _, _ = diverged(trial())
    assert (told["signal"], told["layer"], told["step"], told["last_good"]) == ("gradients", "first", 1, None)


def test_a_validation_that_is_not_finite_follows_a_good_epoch(
    trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "build_model", lambda *_: (NanInValidation(), False))
    told, _, error = diverged(trial())
    assert str(error) == "the validation loss is nan after epoch 1"
    assert (told["signal"], told["layer"], told["validation"], told["last_good"]) == ("outputs", "odd", True, (1, 7))


class Infinite(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.sum() * 0 + math.inf


def test_a_loss_that_is_not_finite_by_itself_is_no_layers(trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "build_loss", lambda config: build_module.as_loss(Infinite()))
    told, _, _ = diverged(trial())
    assert told["signal"] == "loss"
    assert "layer" not in told


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"_target_": "orchestrator.training.optimizers.gradient_descent", "lr": 1e30}},
        {"precision": "bf16", "optimizer": {"_target_": SGD, "lr": 1e30}},
        {"ema_decay": 0.5, "clip_grad_norm": 1.0, "optimizer": {"_target_": SGD, "lr": 1e30}},
    ],
    ids=["full batch", "bf16", "ema and clipping"],
)
def test_every_kind_of_step_has_a_story(trial: MakeTrial, changes: dict[str, Any]) -> None:
    told, _, _ = diverged(trial(**changes))
    assert told["replayed"]
    assert told["signal"] in ("outputs", "weights", "gradients")
    assert told["layer"]


def test_one_that_does_not_diverge_again_says_so(trial: MakeTrial) -> None:
    assert story(trial(), Diverged(2, 3, math.nan)) == {"epoch": 2, "step": 3, "replayed": False}


def test_what_goes_wrong_meanwhile_is_part_of_the_story(trial: MakeTrial) -> None:
    told = story(trial(batch_size=10_000), Diverged(1, 1, math.nan))
    assert not told["replayed"]
    assert "batch_size must be" in told["why"]


def test_a_later_attempt_ends_the_replay(trial: MakeTrial) -> None:
    given = trial(attempt=2)
    TrialRun(given)
    with pytest.raises(Superseded, match=r"a later attempt .* has begun; attempt 1 ends"):
        story(replace(given, attempt=1, fence=1), Diverged(1, 1, math.nan))
