"""Which initializations vanish and explode: the lectures' cases, and real trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import models
from models.initializers import initialize
from models.initializers.fixup import fixup
from models.initializers.zero import zero
from models.layers.norm import group_norm, no_norm
from models.outputs import main_output
from orchestrator.base.records import InitHealth, Trial
from orchestrator.training.health import FirstStep, judged
from orchestrator.training.loop import train_epoch
from orchestrator.training.trial import Diverged, TrialRun


def chain(
    depth: int, width: int, activation: Callable[[], nn.Module], std: float, inputs: int | None = None
) -> nn.Sequential:
    """`depth` hidden layers with normal weights of this standard deviation, and a classifier."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(depth):
        linear = nn.Linear((inputs or width) if index == 0 else width, width)
        nn.init.normal_(linear.weight, std=std)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def step(model: nn.Module, images: Tensor) -> Tensor:
    labels = torch.arange(len(images)) % 10
    loss = functional.cross_entropy(main_output(model(images)), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


def health_of(model: nn.Module, images: Tensor) -> InitHealth | None:
    model.train()
    first = FirstStep(model)
    with first.watching():
        outputs = model(images)
    functional.cross_entropy(main_output(outputs), torch.arange(len(images)) % 10).backward()
    return first.health()


# The ten-layer nets of activation_stats.csv (slides 003): tanh with .01 and 1.0, Xavier and He; the eight-layer relu MLP of E01
# and E02, of which .1 to .2 train and .06 and .3 do not; E05: Xavier's rule with relu fails at 22 layers, He's trains at 30; E22:
# of 20 layers sigmoid fails, tanh and ELU train.
@pytest.mark.parametrize(
    ("depth", "width", "activation", "std", "verdict", "signal"),
    [
        (10, 500, nn.Tanh, 0.01, "vanishing", "outputs"),
        (10, 500, nn.Tanh, 1.0, "exploding", "gradients"),
        (10, 500, nn.Tanh, 500**-0.5, "ok", None),
        (10, 500, nn.ReLU, 500**-0.5, "ok", None),
        (10, 500, nn.ReLU, (2 / 500) ** 0.5, "ok", None),
        (8, 100, nn.ReLU, 1e-4, "vanishing", "outputs"),
        (8, 100, nn.ReLU, 0.06, "vanishing", "outputs"),
        (8, 100, nn.ReLU, 0.1, "ok", None),
        (8, 100, nn.ReLU, 0.2, "ok", None),
        (8, 100, nn.ReLU, 0.3, "exploding", "outputs"),
        (22, 100, nn.ReLU, 0.1, "vanishing", "outputs"),
        (30, 100, nn.ReLU, 0.02**0.5, "ok", None),
        (20, 100, nn.Sigmoid, 0.1, "vanishing", "gradients"),
        (20, 100, nn.Tanh, 0.1, "ok", None),
        (20, 100, nn.ELU, 0.1, "ok", None),
    ],
)
def test_the_lectures_cases(
    depth: int, width: int, activation: Callable[[], nn.Module], std: float, verdict: str, signal: str | None
) -> None:
    torch.manual_seed(1)
    found = health_of(chain(depth, width, activation, std, inputs=500), torch.randn(128, 500))
    assert found is not None
    assert (found["verdict"], found.get("signal")) == (verdict, signal)


@pytest.mark.parametrize(("activation", "gain"), [(nn.Identity, 1.0), (nn.ReLU, 2.0)])
def test_k_sigma_squared_below_one_vanishes_and_above_explodes(
    activation: Callable[[], nn.Module], gain: float
) -> None:
    """Of relu, two (slides 004): the standard deviation changes (k sigma^2 / gain)^(1/2) times a layer."""
    width, depth, images = 200, 31, torch.randn(64, 200)
    for product, verdict in ((0.5, "vanishing"), (1.0, "ok"), (2.0, "exploding")):
        found = health_of(chain(depth, width, activation, (gain * product / width) ** 0.5), images)
        assert found is not None
        assert found["verdict"] == verdict
        if verdict != "ok":
            assert found["ratio"] == pytest.approx(product ** ((depth - 1) / 2), rel=0.9)
            # the first layer beyond a hundred times, or below a hundredth: 2^(n/2) passes 100 at n = 14, layers alternate
            # with activations
            assert abs(int(found["layer"]) / 2 - 14) <= 3


def test_convolutions_with_normalization_or_shortcuts_are_ok() -> None:
    for name, norm in (("plain20", None), ("resnet20", None), ("resnet20", group_norm()), ("mobilenet_v2", None)):
        torch.manual_seed(0)
        model = models.create(
            name, num_classes=10, in_channels=3, image_size=(32, 32), **({"norm": norm} if norm else {})
        )
        assert health_of(model, torch.randn(8, 3, 32, 32)) == {"verdict": "ok"}


def test_branches_that_begin_with_zeros_are_ok_and_a_network_of_zeros_is_not() -> None:
    images = torch.randn(8, 3, 16, 16)

    def residual(**given: Any) -> nn.Module:
        torch.manual_seed(0)
        return models.create("resnet20", num_classes=10, in_channels=3, image_size=(16, 16), **given)

    fixed = residual(norm=no_norm())
    initialize(fixed, fixup(), torch.Generator().manual_seed(0))
    assert health_of(fixed, images) == {"verdict": "ok"}

    zero_gains = residual()
    for name, parameter in zero_gains.named_parameters():
        if name.endswith("branch.1.norm.weight"):
            nn.init.zeros_(parameter)
    assert health_of(zero_gains, images) == {"verdict": "ok"}

    zero_classifier = residual()
    for parameter in zero_classifier.get_submodule("classifier").parameters():
        nn.init.zeros_(parameter)
    assert health_of(zero_classifier, images) == {"verdict": "ok"}

    model = chain(3, 20, nn.ReLU, 0.1)
    initialize(model, zero(), torch.Generator())
    assert health_of(model, torch.randn(8, 20)) == {
        "verdict": "vanishing",
        "layer": "0",
        "signal": "outputs",
        "ratio": 0.0,
    }


def test_of_a_single_layer_before_the_classifier_nothing_is_said() -> None:
    assert health_of(chain(1, 20, nn.ReLU, 1e-6), torch.randn(8, 20)) is None
    assert health_of(nn.Sequential(nn.Flatten(), nn.Linear(20, 10)), torch.randn(8, 20)) is None


def test_signals_that_are_not_finite_explode_where_they_begin() -> None:
    found = health_of(chain(6, 100, nn.ReLU, 1e12), torch.randn(8, 100))
    assert found == {
        "verdict": "exploding",
        "layer": "4",
        "signal": "outputs",
        "ratio": None,
    }  # 1e13, 1e26, above 3.4e38


def test_a_signal_that_comes_back_is_not_lost() -> None:
    assert judged("a", [("a", 1.0), ("b", 1e-5), ("c", 0.5)], []) == {"verdict": "ok"}
    lost = judged("a", [("a", 1.0), ("b", 1e-5), ("c", 0.5), ("d", 1e-3), ("e", 1e-4)], [])
    assert lost == {"verdict": "vanishing", "layer": "d", "signal": "outputs", "ratio": 1e-4}
    back = judged("a", [("a", 1.0), ("b", 1.0)], [("a", 1e-4), ("b", 1e-3), ("c", 1.0), ("d", 0.0)])
    assert back == {"verdict": "vanishing", "layer": "b", "signal": "gradients", "ratio": 1e-4}


def test_watching_changes_neither_gradients_nor_random_numbers() -> None:
    images, found = torch.randn(16, 3, 8, 8), []
    for run in (step, health_of):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten(),
            nn.Linear(128, 10),
        )  # fmt: skip
        assert run(model, images) is not None
        found.append([torch.get_rng_state(), *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def deep(**more: Any) -> dict[str, Any]:
    """A net of eight layers, 1e-4 as on the slides."""
    return {
        "model": {"_target_": "models.mlp.mlp", "hidden": 8, "width": 20},
        "init": {"_target_": "models.initializers.gaussian.gaussian", "std": 1e-4},
        "epochs": 1,
        **more,
    }


OPTIMIZERS = "orchestrator.training.optimizers"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": {"_target_": f"{OPTIMIZERS}.gradient_descent", "lr": 0.1}},
        {"optimizer": {"_target_": f"{OPTIMIZERS}.hessian_free"}},
        pytest.param(
            {
                "optimizer": {"_target_": f"{OPTIMIZERS}.newton"},
                "model": {"_target_": "models.mlp.mlp", "hidden": 4, "width": 2},
            },
            marks=pytest.mark.slow,
        ),
        {"precision": "bf16"},
        {"ema_decay": 0.9, "clip_grad_norm": 1.0},
    ],
    ids=["sgd", "full batch", "hessian-free", "newton", "bf16", "ema and clipping"],
)
def test_the_first_step_of_a_trial_tells(trial: Callable[..., Trial], changes: dict[str, Any]) -> None:
    run = TrialRun(trial("", **deep(**changes)))
    assert run.init_health is None
    next(iter(run))
    assert run.init_health is not None
    assert (run.init_health["verdict"], run.init_health["layer"]) == ("vanishing", "3")


def test_frozen_layers_are_judged_by_what_they_put_out(trial: Callable[..., Trial]) -> None:
    layers = {"_target_": "orchestrator.training.transfer.top_layers", "layers": 2}
    run = TrialRun(trial("", **deep(transfer=layers)))
    next(iter(run))
    assert run.init_health is not None
    assert run.init_health["verdict"] == "vanishing"


def test_a_trial_that_goes_on_from_a_checkpoint_still_knows(trial: Callable[..., Trial]) -> None:
    given = trial(**deep(epochs=2))
    run = TrialRun(given)
    next(iter(run))
    run.save()
    again = TrialRun(given)
    assert again.init_health == run.init_health is not None
    next(iter(again))
    assert again.finish().init_health == run.init_health


def test_a_trial_that_diverges_in_its_first_epoch_tells_all_the_same(trial: Callable[..., Trial]) -> None:
    run = TrialRun(trial("", **deep(init={"_target_": "models.initializers.gaussian.gaussian", "std": 1e6})))
    with pytest.raises(Diverged, match=r"at epoch 1, step 1$"):
        next(iter(run))
    assert run.init_health is not None
    assert run.init_health["verdict"] == "exploding"


def test_only_the_first_epoch_is_watched(trial: Callable[..., Trial]) -> None:
    run = TrialRun(trial("", **deep(epochs=2)))
    first = [next(iter(run)) and run.init_health, next(iter(run)) and run.init_health]
    assert first[0] == first[1]
    learner = run._learner
    learner.first_step = None
    train_epoch(learner, 2)
    assert learner.first_step is None
