"""Every optimizer of ours against torch's own, and what they share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from orchestrator.base.layout import CONF
from orchestrator.training.optimizers import adagrad, adam, adamw, gradient_descent, rmsprop, rprop, sgd, sign
from orchestrator.training.optimizers.parameters import named_parameters
from orchestrator.training.optimizers.state import load_optimizer_state, split_optimizer_state

Make = Callable[..., torch.optim.Optimizer]

TWINS: list[tuple[Make, Make, dict[str, Any]]] = [
    (sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.0}),
    (sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}),
    (adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    (adamw, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    (rmsprop, torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9}),
    (rmsprop, torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    (adagrad, torch.optim.Adagrad, {"lr": 0.1}),
    (adagrad, torch.optim.Adagrad, {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.1}),
    (gradient_descent, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
]
SEVERAL = [(sgd, {"momentum": 0.9}), (adam, {}), (adamw, {}), (rmsprop, {"momentum": 0.5}), (adagrad, {}), (rprop, {})]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4)).to(memory_format=torch.channels_last)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int, seed: int = 1) -> None:
    """Steps with closures, the learning rate changing as a schedule would change it."""
    draws = torch.Generator().manual_seed(seed)
    for step in range(count):
        images = torch.randn(5, 2, 4, 4, generator=draws)

        def closure(images: Tensor = images) -> Tensor:
            model.zero_grad()
            loss = model(images).square().mean()
            loss.backward()
            return loss

        optimizer.param_groups[0]["lr"] *= 1 - 0.1 * (step % 2)
        assert optimizer.step(closure) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(("ours", "torchs", "settings"), TWINS)
def test_same_weights_as_torch(ours: Make, torchs: Make, settings: dict[str, Any]) -> None:
    one, other = network(), network()
    steps(one, ours(one.parameters(), **settings), 10)
    steps(other, torchs(other.parameters(), **settings), 10)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        # 1e-6: the fused kernels round in another order than torch's loop
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_rprop_has_the_weights_of_torchs() -> None:
    """At a constant learning rate: torch's looks at it before the first step alone."""
    one, other = network(), network()
    settings: dict[str, Any] = {"lr": 0.01, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.03)}
    for model, optimizer in (
        (one, rprop(one.parameters(), **settings)),
        (other, torch.optim.Rprop(other.parameters(), **settings)),
    ):
        images = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(1))
        for _ in range(10):
            model.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("make", "settings"), SEVERAL)
def test_state_taken_and_given_back_continues_bit_for_bit(make: Make, settings: dict[str, Any]) -> None:
    model = network()
    optimizer = make(model.parameters(), **settings)
    steps(model, optimizer, 3)
    tensors, rest = split_optimizer_state(optimizer)
    kept = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}  # a file has no channels-last
    rest = copy.deepcopy(rest)
    twin = copy.deepcopy(model)
    steps(model, optimizer, 3, seed=2)
    again = make(twin.parameters(), **settings)
    load_optimizer_state(again, {name.removeprefix("optimizer/"): tensor for name, tensor in kept.items()}, rest)
    steps(twin, again, 3, seed=2)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("make", "settings"), [*SEVERAL[:-1], (sign, {})])
def test_parameter_without_gradient_is_left_alone(make: Make, settings: dict[str, Any]) -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = make([used, unused], **{"weight_decay": 0.1, **settings})
    used.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(unused, torch.ones(3))
    assert not torch.equal(used, torch.ones(3))


def test_momentum_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = sgd([weight], lr=0.5, momentum=0.5)
    for expected in (0.5, -0.25, -1.125):  # velocities 1, 1.5, 1.75
        weight.grad = torch.tensor([1.0])
        optimizer.step()
        assert weight.item() == expected


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (sgd, {"lr": 0.0}, "lr must be more than 0, got 0"),
        (sgd, {"momentum": 1.0}, "momentum must be at least 0 and less than 1, got 1"),
        (sgd, {"weight_decay": -1.0}, "weight_decay must be at least 0, got -1"),
        (sgd, {"momentum": 0.0, "nesterov": True}, "nesterov=true needs momentum above 0"),
        (adam, {"betas": (0.9, 1.0)}, r"betas\[1\] must be at least 0 and less than 1, got 1"),
        (adamw, {"eps": -1e-8}, "eps must be at least 0, got -1e-08"),
        (adagrad, {"lr": 0.0}, "lr must be more than 0, got 0"),
        (sign, {"weight_decay": -1.0}, "weight_decay must be at least 0, got -1"),
        (rprop, {"etas": (1.0, 1.2)}, r"etas\[0\] must be more than 0 and less than 1, got 1"),
        (rprop, {"etas": (0.5, 1.0)}, r"etas\[1\] must be more than 1, got 1"),
        (rprop, {"step_sizes": (1.0, 0.5)}, r"step_sizes\[1\] must be more than 1, got 0.5"),
        (gradient_descent, {"momentum": 1.0}, "momentum must be at least 0 and less than 1, got 1"),
        (rmsprop, {"alpha": -0.1}, "alpha must be at least 0 and less than 1, got -0.1"),
    ],
)
def test_settings_outside_their_range_are_refused(make: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make([nn.Parameter(torch.ones(1))], **settings)


DECAYING: list[Make] = [sgd, gradient_descent, adam, adamw, rmsprop, adagrad, sign]


def of_one_step(make: Make, **settings: Any) -> dict[str, Tensor]:
    """The parameters of a network with a norm after a step; biases begin at 0.5, so that a decay would be seen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(0.5)
    optimizer = make(model.parameters(), named_params=named_parameters(model), **settings)
    model(torch.randn(6, 3)).square().mean().backward()
    optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("make", DECAYING)
def test_weights_alone_decay_where_that_is_asked(make: Make) -> None:
    """Weights move as where all decays, everything else as where nothing does; by default all decays, as in torch."""
    weights = of_one_step(make, weight_decay=3.0, decay="weights")
    everything, nothing = of_one_step(make, weight_decay=3.0, decay="all"), of_one_step(make, weight_decay=0.0)
    by_default = of_one_step(make, weight_decay=3.0)
    for name, tensor in weights.items():
        assert torch.equal(tensor, (everything if tensor.ndim > 1 else nothing)[name]), name
        assert torch.equal(everything[name], by_default[name]), name
    # the first steps of adaptive methods are of one length, in which a decay shows where it turns a sign
    moved = [name for name in weights if not torch.equal(everything[name], nothing[name])]
    assert {weights[name].ndim for name in moved} == {1, 2}


@pytest.mark.parametrize("make", DECAYING)
def test_what_decays_is_one_of_two(make: Make) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="decay must be one of all, weights, got biases"):
        make(model.parameters(), named_params=named_parameters(model), decay="biases")
    with pytest.raises(ValueError, match="decay=weights has to be told which parameters are weights"):
        make(model.parameters(), decay="weights")


def test_every_optimizer_with_weight_decay_asks_what_decays() -> None:
    """Muon's weights alone decay, as its file says."""
    specs = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "optimizer").glob("*.yaml"))}
    assert [name for name, spec in specs.items() if "weight_decay" in spec and "decay" not in spec] == ["muon"]
