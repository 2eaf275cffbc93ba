from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestrator.training import loop
from orchestrator.training.endings import Diverged
from orchestrator.training.loop import _Totals, backward_on_cpu, gradient_norm, measured_steps


@pytest.mark.parametrize(
    ("steps", "measured"), [(1, [0]), (3, [0, 1, 2]), (8, [*range(8)]), (80, [0, 10, 20, 30, 40, 50, 60, 70])]
)
def test_gradient_norms_are_taken_evenly(steps: int, measured: list[int]) -> None:
    assert sorted(measured_steps(steps)) == measured


def test_gradient_norm_is_of_all_parameters_together_and_does_not_overflow() -> None:
    params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = torch.tensor([3e30, 0.0]), torch.tensor([4e30])
    assert gradient_norm(params).item() == pytest.approx(5e30)


def totals(device: str, sizes: list[int]) -> _Totals:
    made = _Totals(2, sizes, torch.device("cpu"))
    made.on_cpu = device == "cpu"  # the way of a GPU, tried without one
    return made


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("at_once", [0, 2**20])
def test_totals_weigh_batches_by_their_size(device: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOGITS_AT_ONCE", at_once)
    made = totals(device, [3, 1])
    made.add(torch.tensor(1.0), torch.eye(3), torch.tensor([0, 1, 0]))
    made.add(torch.tensor(3.0), torch.eye(3)[:1], torch.tensor([0]))
    assert made.close() == {"train/loss": 1.5, "train/accuracy": 0.75}


def test_gpu_looks_late_and_still_tells_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECK_EVERY_GPU", 3)
    made = totals("cuda", [1] * 4)
    losses = [torch.tensor(1.0), torch.tensor(float("inf")), torch.tensor(float("nan"))]
    for loss in losses[:2]:
        made.add(loss, torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(Diverged, match="the loss is inf at epoch 2, step 2"):
        made.add(losses[2], torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))


def test_backward_straight_to_the_engine_gives_the_same_gradients() -> None:
    backward = backward_on_cpu()
    for factor in (1.0, 2.0):
        one, other = nn.Parameter(torch.arange(3.0)), nn.Parameter(torch.arange(3.0))
        backward((factor * one.square()).mean())
        (factor * other.square()).mean().backward()
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_loss_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a loss must be a scalar, got shape \(2,\)"):
        backward_on_cpu()(nn.Parameter(torch.zeros(2)) * 2)
