from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.training import build as build_module
from orchestrator.training.penalties import ActivationPenalty, Activations, l2
from orchestrator.training.penalties.base import watched
from orchestrator.training.trial import TrialRun


class SquaredActivations:
    """0.1 times the mean square of what every ReLU returns."""

    def __init__(self) -> None:
        self.seen: list[dict[str, int]] = []

    def watches(self, name: str, module: nn.Module) -> bool:
        return isinstance(module, nn.ReLU)

    def __call__(self, model: nn.Module, activations: Activations) -> Tensor:
        self.seen.append({name: len(outputs) for name, outputs in activations.items()})
        return 0.1 * torch.stack([o.square().mean() for outputs in activations.values() for o in outputs]).sum()


def test_watched_modules_hand_over_what_they_return_and_are_let_go() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
    penalty = SquaredActivations()
    images = torch.randn(3, 2)
    with watched(model, penalty) as activations:
        out = model(images)
        assert list(activations) == ["1"]  # called twice, under its first name
        assert torch.equal(activations["1"][1], out)
        assert penalty(model, activations).requires_grad
    model(images)
    assert activations == {}
    assert not relu._forward_hooks


def test_which_penalties_see_activations() -> None:
    assert isinstance(SquaredActivations(), ActivationPenalty)
    assert not isinstance(l2(), ActivationPenalty)


def test_activation_penalty_changes_the_gradient_by_hand(
    trial: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of a whole epoch in one batch, against a plain loop."""
    build, penalty = build_module.build, SquaredActivations()
    monkeypatch.setattr(build_module, "build", lambda spec, **kw: penalty if spec == {"x": 1} else build(spec, **kw))
    made = trial("", penalty={"x": 1}, epochs=1, batch_size=98)
    run = TrialRun(made)
    data = run._learner.data.splits["train"]
    twin = TrialRun(made)._learner.model
    next(run)
    assert penalty.seen == [{"2": 1}]

    images, hidden = data.take(torch.arange(len(data))), []
    twin[2].register_forward_hook(lambda module, inputs, output: hidden.append(output))  # type: ignore[index]
    loss = nn.functional.cross_entropy(twin(images), data.labels) + 0.1 * hidden[0].square().mean()
    loss.backward()
    for p, q in zip(run._learner.model.parameters(), twin.parameters(), strict=True):
        assert q.grad is not None
        torch.testing.assert_close(p.detach(), q.detach() - 0.05 * q.grad, rtol=1e-4, atol=1e-6)
