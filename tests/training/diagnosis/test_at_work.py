"""What `diagnostics=true` adds to a trial's metrics: worked out again by plain torch, and no number of the training changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from orchestrator.base.records import Trial
from orchestrator.config.measured import needs_diagnostics
from orchestrator.training.batches import batches
from orchestrator.training.build import build_learner
from orchestrator.training.device import derive_seed, generator, seed_everything
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Trial]
OWN = "orchestrator.training.optimizers"
PENALTIES = "orchestrator.training.penalties"
TIMED = "images_per_s"
KEYS = {"activation_mean", "activation_std", "dead", "gradient_mean", "gradient_std", "update_ratio"}


def metrics_of(given: Trial) -> list[dict[str, float]]:
    return [{key: value for key, value in result.metrics.items() if key != TIMED} for result in TrialRun(given)]


def test_the_training_is_the_same_with_and_without(trial: MakeTrial) -> None:
    plain = metrics_of(trial("plain", epochs=2))
    looked_at = metrics_of(trial("looked at", epochs=2, diagnostics=True))
    for without, having in zip(plain, looked_at, strict=True):
        assert {key: having[key] for key in without} == without
    first, second = (set(having) - set(plain[0]) for having in looked_at)
    layers = {f"layers/{name}/{key}" for name in "13" for key in KEYS} | {"layers/sign_agreement"}
    assert second == layers | {"layers/small_weights"}
    assert first == second | {key.replace("layers/", "init/") for key in layers}
    assert all(map(needs_diagnostics, first)), "a claim can measure each"
    assert not any(map(needs_diagnostics, plain[0]))


def test_the_share_of_small_weights_is_that_of_the_weights_at_the_end(trial: MakeTrial) -> None:
    """Of 64 x 12 + 12 x 4 weights and no bias, some of which the penalty has brought near 0."""
    run = TrialRun(trial("", epochs=3, diagnostics=True, penalty={"_target_": f"{PENALTIES}.l1", "strength": 0.1}))
    found = [result.metrics["layers/small_weights"] for result in run]
    flat = torch.cat(
        [module.weight.flatten() for module in run.learner.model.modules() if isinstance(module, nn.Linear)]
    )
    assert len(flat) == 64 * 12 + 12 * 4
    assert found[-1] == (flat.abs() < 1e-3).double().mean().item()
    assert 0 < found[0] < found[-1] < 1


def test_the_first_step_is_that_of_a_loop_by_hand(trial: MakeTrial) -> None:
    """A net of 64 inputs, 12 relu units and 4 classes: the first batch, its gradients and the first update."""
    given = trial("", epochs=1, diagnostics=True)
    found = metrics_of(given)[0]

    learner = build_learner(given.config)
    train = learner.data.splits["train"]
    seed_everything(derive_seed(0, "model", 1), torch.device("cpu"))
    order = torch.randperm(len(train), generator=generator(derive_seed(0, "order", 1)))
    batch = next(batches(train, learner.sizes, order=order, augment=None, draws=torch.Generator(), channels_last=False))
    linears = [module for module in learner.model.modules() if isinstance(module, nn.Linear)]
    images = batch.images.flatten(1)
    hidden = functional.relu(linears[0](images))
    logits = linears[1](hidden)
    loss = functional.cross_entropy(logits, batch.labels)
    gradients = torch.autograd.grad(loss, [hidden, logits, linears[0].weight, linears[1].weight], retain_graph=True)
    (before,) = torch.autograd.grad(loss, hidden)
    before = before * (hidden > 0)
    for name, values, gradient, linear, of_weight in zip(
        "13", (hidden, logits), gradients[:2], linears, gradients[2:], strict=True
    ):
        assert found[f"init/{name}/activation_mean"] == pytest.approx(values.mean().item(), rel=1e-4)
        assert found[f"init/{name}/activation_std"] == pytest.approx(values.std(correction=0).item(), rel=1e-4)
        assert found[f"init/{name}/gradient_std"] == pytest.approx(gradient.std(correction=0).item(), rel=1e-4)
        assert found[f"init/{name}/dead"] == ((values == 0).all(0)).float().mean().item()
        ratio = (0.05 * of_weight).norm() / linear.weight.norm()  # the first step with momentum has none
        assert found[f"init/{name}/update_ratio"] == pytest.approx(ratio.item(), rel=1e-3)
    each = before.unsqueeze(2) * images.unsqueeze(1)
    positive, negative = (each > 0).sum(2), (each < 0).sum(2)
    some = positive + negative > 0
    share = (torch.maximum(positive, negative)[some] / (positive + negative)[some]).mean()
    assert found["init/sign_agreement"] == pytest.approx(share.item(), rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"_target_": f"{OWN}.gradient_descent", "lr": 0.1}},
        {"optimizer": {"_target_": f"{OWN}.hessian_free"}},
        pytest.param(
            {
                "optimizer": {"_target_": f"{OWN}.newton"},
                "model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 2},
            },
            marks=pytest.mark.slow,
        ),
        {"precision": "bf16"},
        {"norm": {"_target_": "models.layers.norm.weight_norm"}},
        {"ema_decay": 0.9, "clip_grad_norm": 1.0},
        {"transfer": {"_target_": "orchestrator.training.transfer.top_layers", "layers": 1}},
    ],
    ids=["full batch", "hessian-free", "newton", "bf16", "weight norm", "ema and clipping", "frozen"],
)
def test_every_kind_of_training_can_be_looked_at(trial: MakeTrial, changes: dict[str, Any]) -> None:
    (plain,) = metrics_of(trial("", epochs=1, **changes))
    (having,) = metrics_of(trial("", epochs=1, diagnostics=True, **changes))
    assert {key: having[key] for key in plain} == plain
    assert {key.rpartition("/")[2] for key in having if key.startswith("layers/")} >= {"activation_std", "update_ratio"}


def test_a_trial_continued_from_its_checkpoint_measures_the_same(trial: MakeTrial) -> None:
    whole = metrics_of(trial("whole", epochs=3, diagnostics=True))
    given = trial("cut", epochs=3, diagnostics=True)
    run = TrialRun(given)
    next(run)
    run.save()
    again = [dict(result.metrics) for result in TrialRun(given)]
    for one, other in zip(again, whole[1:], strict=True):
        assert {key: value for key, value in one.items() if key != TIMED} == other
