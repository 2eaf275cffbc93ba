"""The private ways of torch and safetensors against the public ones that would take their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.training import private

SHAPES = [(3, 4), (5,), (2, 3, 2, 2)]


def tensors(seed: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws) for shape in SHAPES]


def assert_equal(ones: Any, others: Any) -> None:
    assert all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def test_the_private_names_are_there_in_this_version() -> None:
    """Where one has gone, the public way is taken: slower, and not noticed but here."""
    public = {
        private.public_backward, private.public_gradients, private.public_safetensors, private.public_set_deterministic,
    }  # fmt: skip
    in_use = {private.backward, private.gradients, private.to_safetensors, private.set_deterministic}
    assert not public & in_use
    for name in ("norms", "add", "add_", "mul_", "addcmul_", "addcdiv_", "sqrt", "sgd_", "adam_", "adamw_"):
        assert getattr(private, name) is not getattr(private, f"public_{name}"), name


@pytest.mark.parametrize("set_deterministic", [private.set_deterministic, private.public_set_deterministic])
def test_determinism(set_deterministic: Callable[[bool], None]) -> None:
    for wanted in (True, False):
        set_deterministic(wanted)
        assert torch.are_deterministic_algorithms_enabled() == wanted
        assert torch.is_deterministic_algorithms_warn_only_enabled() == wanted or not wanted


def test_backward() -> None:
    found = []
    for backward in (private.backward, private.public_backward):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
        loss = net(torch.ones(3, 4)).square().mean()
        backward(loss, torch.ones_like(loss), False)
        found.append([p.grad for p in net.parameters()])
    assert_equal(*found)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_backward_that_keeps_the_graph() -> None:
    for backward in (private.backward, private.public_backward):
        w = nn.Parameter(torch.tensor(2.0))
        loss = w**3
        backward(loss, torch.ones_like(loss), True)
        assert w.grad is not None
        assert torch.autograd.grad(w.grad, w)[0].item() == 12.0  # 6 w
        w.grad = None


def test_gradients() -> None:
    for gradients in (private.gradients, private.public_gradients):
        w, unused = nn.Parameter(torch.tensor([2.0, 3.0])), nn.Parameter(torch.ones(1))
        (first, none) = gradients([w**3], [w, unused], [torch.tensor([1.0, 2.0])], True)
        assert none is None
        assert first is not None
        assert first.tolist() == [12.0, 54.0]
        (second,) = gradients([first], [w], [torch.ones(2)], False)
        assert second is not None
        assert second.tolist() == [12.0, 36.0]
        assert not second.requires_grad
        assert w.grad is None


def test_lists_of_tensors() -> None:
    one, other = tensors(0), tensors(1)
    assert_equal(private.norms(one, 2, torch.float64), private.public_norms(one, 2, torch.float64))
    assert_equal(private.add(one, other, alpha=0.3), private.public_add(one, other, alpha=0.3))
    positive = [t.abs() for t in one]
    assert_equal(private.sqrt(positive), private.public_sqrt(positive))


@pytest.mark.parametrize(
    ("name", "arguments", "settings"),
    [
        ("add_", (tensors(1),), {"alpha": -0.1}),
        ("add_", (0.25,), {}),
        ("mul_", (0.9,), {}),
        ("addcmul_", (tensors(1), tensors(2)), {"value": 0.7}),
        ("addcdiv_", (tensors(1), tensors(2)), {"value": -0.7}),
    ],
)
def test_lists_of_tensors_in_place(name: str, arguments: tuple[Any, ...], settings: dict[str, Any]) -> None:
    one, other = tensors(0), tensors(0)
    getattr(private, name)(one, *arguments, **settings)
    getattr(private, f"public_{name}")(other, *arguments, **settings)
    assert_equal(one, other)


SGD = {"lr": 0.1, "dampening": 0.0, "maximize": False, "is_first_step": False}
ADAM = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "amsgrad": False, "maximize": False}


@pytest.mark.parametrize(
    ("name", "slots", "settings"),
    [
        ("sgd_", 0, SGD | {"momentum": 0.0, "weight_decay": 0.1, "nesterov": False}),
        ("sgd_", 1, SGD | {"momentum": 0.9, "weight_decay": 0.0, "nesterov": False}),
        ("sgd_", 1, SGD | {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
        ("adam_", 2, ADAM | {"weight_decay": 0.1}),
        ("adamw_", 2, ADAM | {"weight_decay": 0.1}),
    ],
)
def test_fused_updates(name: str, slots: int, settings: dict[str, Any]) -> None:
    results = []
    for update in (getattr(private, name), getattr(private, f"public_{name}")):
        params, state = tensors(0), [[torch.zeros(shape) for shape in SHAPES] for _ in range(slots)]
        for step in range(1, 4):
            counts = [torch.tensor(float(step))] * len(params)
            more = ([], counts) if "adam" in name else () if slots else ([],)
            update(params, tensors(step), *state, *more, **settings)
        results.append([*params, *(tensor for slot in state for tensor in slot)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)  # the kernels round in another order


def test_safetensors() -> None:
    held = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2]), "c": torch.ones(3, dtype=torch.bfloat16)}
    metadata = {"state": "{}"}
    assert private.to_safetensors(held, metadata) == private.public_safetensors(held, metadata)


def test_methods_of_the_optimizer_without_the_compiler() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert private.plain("state_dict")(optimizer) == optimizer.state_dict()
