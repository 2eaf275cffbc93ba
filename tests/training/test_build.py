"""What optimizers, losses and schedules of a user are told, through whole trials."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.base.rights import Rights, granted
from orchestrator.training.losses import Batch
from orchestrator.training.optimizers import NamedParameter, decay_groups
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Any]
OWN = "orchestrator.training"


class SignDescent(torch.optim.Optimizer):
    """As in the README."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad.sign()
        return loss


def grouped(named_params: list[NamedParameter], *, lr: float = 0.1, weight_decay: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD(decay_groups(named_params, weight_decay), lr=lr)


def handed_on(params: Iterable[nn.Parameter], lr: float, **settings: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, **settings)


class Newton(SignDescent):
    """w - H^-1 g with the exact Hessian, for a handful of weights; damped, so that it exists."""

    needs_graph = True

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        loss = closure()
        params = self.param_groups[0]["params"]
        gradient = torch.cat([p.grad.reshape(-1) for p in params])
        rows = [torch.cat([h.reshape(-1) for h in torch.autograd.grad(g, params, retain_graph=True)]) for g in gradient]
        step = torch.linalg.solve(torch.stack(rows) + 0.1 * torch.eye(len(gradient)), gradient.detach())
        with torch.no_grad():
            for p, part in zip(params, step.split([p.numel() for p in params]), strict=True):
                p -= part.view_as(p)
        return loss


class SharpnessAware(SignDescent):
    """Two closures a step: up the gradient, and down from there."""

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        loss = closure()
        (group,) = self.param_groups
        climbed = [100.0 * p.grad for p in group["params"]]
        with torch.no_grad():
            for p, up in zip(group["params"], climbed, strict=True):
                p += up
        closure()
        with torch.no_grad():
            for p, up in zip(group["params"], climbed, strict=True):
                p -= up + group["lr"] * p.grad
        return loss


def ranked(outputs: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    """A loss that needs its batch: later examples of the training split weigh more."""
    assert batch.images.shape[0] == len(batch.indices) == len(labels)
    losses = nn.functional.cross_entropy(outputs, labels, reduction="none")
    return (losses * (1 + batch.indices / 1000)).mean()


def ranked_loss() -> Callable[..., Tensor]:
    return ranked


class TwoHeads(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        features = in_channels * image_size[0] * image_size[1]
        self.main, self.side = nn.Linear(features, num_classes), nn.Linear(features, num_classes)

    def forward(self, images: Tensor) -> Any:
        from models.outputs import Outputs

        flat = images.flatten(1)
        return Outputs(self.main(flat), (self.side(flat),)) if self.training else self.main(flat)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The spec of a target of this file, which the user allows."""
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "mine", module)
    for thing in (SignDescent, grouped, handed_on, Newton, SharpnessAware, ranked_loss, TwoHeads):
        monkeypatch.setattr(thing, "__module__", "mine")
    with granted(Rights(("mine",))):
        yield lambda name: {"_target_": f"mine.{name}"}


Own = Callable[[str], dict[str, Any]]


@pytest.mark.parametrize("name", ["SignDescent", "handed_on"])
def test_optimizers_of_parameters_alone_go_on_working(trial: MakeTrial, own: Own, name: str) -> None:
    results = list(TrialRun(trial("", optimizer={**own(name), "lr": 0.01}, epochs=6)))
    assert results[-1].metrics["train/loss"] < results[0].metrics["train/loss"]


def test_optimizer_is_told_names_and_roles(trial: MakeTrial, own: Own) -> None:
    run = TrialRun(trial("", optimizer=own("grouped")))
    decays = {group["weight_decay"]: len(group["params"]) for group in run._learner.optimizer.param_groups}
    assert decays == {0.5: 2, 0.0: 2}
    next(run)


def test_second_derivatives_where_the_optimizer_asks_for_them(trial: MakeTrial, own: Own) -> None:
    model = {"_target_": "models.mlp.linear"}
    data = {"_target_": "orchestrator.training.data.synthetic.synthetic", "num_examples": 150, "noise": 1.0}
    settings = {"optimizer": own("Newton"), "model": model, "data": data}
    run = TrialRun(trial("", **settings, batch_size=98, epochs=3))
    losses = [result.metrics["train/loss"] for result in run]
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is None for p in run._learner.params)


def test_training_loss_is_that_of_the_weights_before_the_step(trial: MakeTrial, own: Own) -> None:
    """A step that looks elsewhere, too, is not judged by what it saw there."""
    settings = {"batch_size": 98, "epochs": 1, "model": {"_target_": "models.mlp.linear"}}
    optimizer = {**own("SharpnessAware"), "lr": 1e-9}
    (result,) = TrialRun(trial("", **settings, optimizer=optimizer))
    plain = {"_target_": "orchestrator.training.optimizers.sgd", "lr": 1e-9}
    (expected,) = TrialRun(trial("", **settings, optimizer=plain))
    assert result.metrics["train/loss"] == pytest.approx(expected.metrics["train/loss"], rel=1e-6)


def test_loss_is_told_the_batch(trial: MakeTrial, own: Own) -> None:
    results = list(TrialRun(trial("", loss=own("ranked_loss"), epochs=6)))
    assert results[-1].metrics["val/loss"] < results[0].metrics["val/loss"]


def test_torchs_own_loss_can_be_named(trial: MakeTrial) -> None:
    torchs, ours = (
        [result.metrics["train/loss"] for result in TrialRun(trial("", loss=spec))]
        for spec in (
            {"_target_": "torch.nn.CrossEntropyLoss"},
            {"_target_": "orchestrator.training.losses.cross_entropy"},
        )
    )
    assert torchs == ours


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_auxiliary_head_is_trained_and_not_judged(trial: MakeTrial, own: Own, precision: str) -> None:
    run = TrialRun(trial(model=own("TwoHeads"), epochs=6, precision=precision))
    side = run._learner.model.get_submodule("side")
    before = [p.clone() for p in side.parameters()]
    results = list(run)
    assert not any(torch.equal(p, q) for p, q in zip(before, side.parameters(), strict=True))
    assert results[-1].metrics["val/loss"] < results[0].metrics["val/loss"]
    assert run.finish().metrics["test/accuracy"] > 0.5


@pytest.mark.parametrize("batch_size", [16, 40, 98])
def test_a_full_batch_is_one_step_an_epoch_by_the_gradient_over_the_training_split(
    trial: MakeTrial, batch_size: int
) -> None:
    """Against a plain loop over the whole split; 16 and 40 leave a smaller last batch of 98 examples."""
    changes = {"optimizer": {"_target_": f"{OWN}.optimizers.gradient_descent", "lr": 0.5, "momentum": 0.5}}
    changes |= {"penalty": {"_target_": f"{OWN}.penalties.l2", "strength": 0.01}, "epochs": 4}
    changes |= {"schedule": {"_target_": f"{OWN}.schedules.step", "every_epochs": 2, "warmup_epochs": 1.0}}
    run = TrialRun(trial("", batch_size=batch_size, **changes))
    twin = TrialRun(trial("", **changes))._learner.model
    split = run._learner.data.splits["train"]
    velocities = [torch.zeros_like(p) for p in twin.parameters()]
    for result, lr in zip(run, (0.5, 0.5, 0.5, 0.05), strict=True):
        loss = nn.functional.cross_entropy(twin(split.take(torch.arange(98))), split.labels)
        decayed = sum(p.square().sum() for p in twin.parameters() if p.ndim > 1)
        grads = torch.autograd.grad(loss + 0.01 * decayed, list(twin.parameters()))
        with torch.no_grad():
            for p, grad, velocity in zip(twin.parameters(), grads, velocities, strict=True):
                p -= lr * velocity.mul_(0.5).add_(grad)
        assert result.metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert result.metrics["grad_norm"] == pytest.approx(
            torch.cat([g.flatten() for g in grads]).norm().item(), rel=1e-4
        )
        assert result.metrics["lr"] == pytest.approx(lr)
    for p, q in zip(run._learner.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_second_order_steps_leave_no_gradients_and_report_those_of_the_start(trial: MakeTrial) -> None:
    """The first epoch in one batch: its gradient norm is that of the first weights, also where the step is taken back."""
    one = {"batch_size": 98, "epochs": 1}
    norms = []
    for name in ("newton", "hessian_free", "gradient_descent"):
        run = TrialRun(trial("", optimizer={"_target_": f"{OWN}.optimizers.{name}"}, **one))
        norms.append(next(run).metrics["grad_norm"])
        if name != "gradient_descent":
            assert all(p.grad is None for p in run._learner.model.parameters())
    assert norms[:2] == pytest.approx([norms[2]] * 2, rel=1e-5)
