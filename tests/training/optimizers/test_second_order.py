"""Newton and Hessian-free, against Hessians that torch or a formula gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.outputs import Outputs
from orchestrator.training.losses import Batch, hinge
from orchestrator.training.optimizers import hessian_free, newton
from orchestrator.training.optimizers.hessian_free import (
    conjugate_gradient,
    gauss_newton_product,
    hessian_product,
)
from orchestrator.training.optimizers.newton import hessian
from orchestrator.training.penalties import l1, l2

pytestmark = pytest.mark.filterwarnings("ignore:Using backward")

DRAWS = torch.Generator().manual_seed(0)
IMAGES = torch.randn(9, 4, generator=DRAWS, dtype=torch.float64)
LABELS = torch.randint(3, (9,), generator=DRAWS)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


class Closure:
    """As the engine's: the objective, and what it was made of."""

    def __init__(self, model: nn.Module, images: Tensor = IMAGES, penalty: Callable[[nn.Module], Tensor] | None = None):
        self.model, self.images, self.add, self.loss_of = model, images, penalty, F.cross_entropy
        self.penalty: Tensor | None = None

    def __call__(self) -> Tensor:
        self.model.zero_grad()
        self.outputs = self.model(self.images)
        self.loss = self.loss_of(self.outputs, LABELS)
        self.penalty = None if self.add is None else self.add(self.model)
        objective = self.loss if self.penalty is None else self.loss + self.penalty
        objective.backward(create_graph=True)  # type: ignore[no-untyped-call]
        return objective


class Quadratic:
    """w^T A w / 2 - b^T w, which is its own output; its least value is at A^-1 b."""

    def __init__(self, matrix: Tensor, target: Tensor) -> None:
        self.matrix, self.target = matrix, target
        self.weights = nn.Parameter(torch.zeros_like(target))
        self.penalty: Tensor | None = None

    def __call__(self) -> Tensor:
        self.weights.grad = None
        self.outputs = self.weights * 1.0
        self.loss: Tensor = self.outputs @ self.matrix @ self.outputs / 2 - self.target @ self.outputs
        self.loss.backward(create_graph=True)  # type: ignore[no-untyped-call]
        return self.loss


def positive(size: int) -> Tensor:
    """A positive definite matrix, whose condition number of about 5 leaves rounding aside."""
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return root @ root.T / size + torch.eye(size, dtype=torch.float64)


def explicit(model: nn.Sequential, objective: Callable[..., Tensor]) -> Tensor:
    """The Hessian of objective(model as a function of one vector), by torch's own function."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def of_vector(vector: Tensor) -> Tensor:
        cut = vector.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, cut, shapes, strict=True)}
        return objective(torch.func.functional_call(model, values, (IMAGES,)), values)

    vector = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return torch.autograd.functional.hessian(of_vector, vector)  # type: ignore[no-untyped-call,no-any-return]


def vectors(size: int) -> Tensor:
    return torch.randn(4, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_property_hessian_times_v_equals_the_explicit_hessian_times_v() -> None:
    model = network()
    Closure(model)()
    params = list(model.parameters())
    expected = explicit(model, lambda outputs, values: F.cross_entropy(outputs, LABELS))
    torch.testing.assert_close(hessian(params), expected, rtol=1e-9, atol=1e-12)
    product = hessian_product(params)
    for v in vectors(len(expected)):
        torch.testing.assert_close(product(v), expected @ v, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("penalty", "own"), [(None, 0.0), (l2(strength=0.25), 0.5), (l1(strength=0.3), 0.0)])
def test_gauss_newton_times_v_equals_its_explicit_matrix_times_v(
    penalty: Callable[[nn.Module], Tensor] | None, own: float
) -> None:
    """J by torch's Jacobian, L of the mean cross-entropy by its formula (diag(p) - p p^T) / N, and the penalty's Hessian."""
    model = network()
    closure = Closure(model, penalty=penalty)
    closure()
    params = list(model.parameters())
    rows = [torch.autograd.grad(z, params, retain_graph=True) for z in closure.outputs.flatten()]
    jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    p = closure.outputs.detach().softmax(1)
    matrix = jacobian.T @ torch.block_diag(*(torch.diag(q) - torch.outer(q, q) for q in p)) @ jacobian / len(p)
    matrix = matrix + torch.diag(torch.cat([torch.full((q.numel(),), own * (q.ndim > 1)).double() for q in params]))
    product = gauss_newton_product(closure, params)
    for v in vectors(len(matrix)):
        torch.testing.assert_close(product(v), matrix @ v, rtol=1e-8, atol=1e-10)


def test_gauss_newton_of_auxiliary_outputs_and_of_a_loss_without_curvature() -> None:
    """A second output like the first, at half its weight, has half its product."""
    closure = Closure(network())
    closure()
    params = list(closure.model.parameters())
    v = vectors(sum(p.numel() for p in params))[0]
    once = gauss_newton_product(closure, params)(v)
    z, other = closure.model(IMAGES), closure.model(IMAGES)
    closure.outputs = Outputs(z, (other,), auxiliary_weight=0.5)
    closure.loss = F.cross_entropy(z, LABELS) + 0.5 * F.cross_entropy(other, LABELS)
    torch.testing.assert_close(gauss_newton_product(closure, params)(v), 1.5 * once)
    closure.outputs, closure.loss = z, hinge()(z, LABELS, Batch(IMAGES, LABELS, LABELS))
    assert gauss_newton_product(closure, params)(v).abs().max() == 0


@pytest.mark.parametrize("size", [1, 3, 20])
def test_property_conjugate_gradients_end_in_at_most_n_steps(size: int) -> None:
    matrix, target = positive(size), torch.arange(1.0, size + 1, dtype=torch.float64)
    solved, count = conjugate_gradient(lambda v: matrix @ v, target, iterations=1000, tolerance=1e-10)
    assert count <= size
    torch.testing.assert_close(solved, torch.linalg.solve(matrix, target), rtol=1e-7, atol=1e-9)


def test_conjugate_gradients_need_as_many_steps_as_there_are_eigenvalues() -> None:
    values = torch.tensor([1.0, 1.0, 5.0, 5.0, 5.0], dtype=torch.float64)
    target = torch.ones(5, dtype=torch.float64)
    solved, count = conjugate_gradient(lambda v: values * v, target, iterations=5, tolerance=1e-12)
    assert count == 2
    torch.testing.assert_close(solved, target / values)


def test_conjugate_gradients_end_at_negative_curvature() -> None:
    target = torch.tensor([1.0, 2.0])
    solved, count = conjugate_gradient(lambda v: -v, target, iterations=5)
    assert (solved.tolist(), count) == ([1.0, 2.0], 1)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (newton, {}),
        (hessian_free, {"curvature": "hessian", "tolerance": 1e-12}),
        (hessian_free, {"curvature": "gauss_newton", "tolerance": 1e-12}),
    ],
)
def test_property_minimum_of_a_quadratic_in_one_outer_step(make: Callable[..., Any], settings: Any) -> None:
    matrix, target = positive(12), torch.linspace(-1, 2, 12, dtype=torch.float64)
    closure = Quadratic(matrix, target)
    make([closure.weights], damping=0.0, **settings).step(closure)
    torch.testing.assert_close(closure.weights.detach(), torch.linalg.solve(matrix, target), rtol=1e-8, atol=1e-9)
    closure()
    assert closure.weights.grad is not None
    assert closure.weights.grad.norm() < 1e-9


@pytest.mark.parametrize("make", [newton, hessian_free])
def test_damping_falls_where_the_model_was_right_and_rises_where_not(make: Callable[..., Any]) -> None:
    closure = Quadratic(positive(4), torch.ones(4, dtype=torch.float64))
    optimizer = make([closure.weights], damping=0.6)
    optimizer.step(closure)
    assert optimizer.param_groups[0]["damping"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("make", "settings"), [(newton, {}), (hessian_free, {}), (hessian_free, {"curvature": "hessian"})]
)
def test_a_step_that_raises_the_objective_is_taken_back(make: Callable[..., Any], settings: Any) -> None:
    """Steps of 10 times Newton's: over the minimum and up again on the other side."""
    closure = Quadratic(positive(4), torch.ones(4, dtype=torch.float64))
    with torch.no_grad():
        closure.weights.fill_(0.1)
    optimizer = make([closure.weights], lr=10.0, damping=0.01, **settings)
    optimizer.step(closure)
    assert closure.weights.tolist() == [0.1] * 4
    assert optimizer.param_groups[0]["damping"] == pytest.approx(0.04)


@pytest.mark.parametrize(("make", "settings"), [(newton, {}), (hessian_free, {})])
def test_both_objectives_of_a_step_leave_the_same_units_out(make: Callable[..., Any], settings: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)).double()
    model[2].register_forward_hook(lambda module, given, out: masks.append(out != 0))
    masks: list[Tensor] = []
    optimizer, draws = make(model.parameters(), **settings), []
    for _ in range(3):
        before = torch.get_rng_state()
        masks.clear()
        optimizer.step(Closure(model))
        assert len(masks) == 2
        assert torch.equal(*masks)
        after = torch.get_rng_state()
        torch.set_rng_state(before)
        model(IMAGES)
        assert torch.equal(torch.get_rng_state(), after)  # as if it had been one pass
        draws.append(masks[0])
    assert not torch.equal(draws[0], draws[1])


def test_newton_goes_down_from_a_saddle() -> None:
    """(x^2 - y^2) / 2: without damping a Newton step would go up to the saddle itself."""
    saddle = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    closure = Quadratic(saddle, torch.zeros(2, dtype=torch.float64))
    with torch.no_grad():
        closure.weights.copy_(torch.tensor([1.0, 0.1]))
    before = closure().item()
    optimizer = newton([closure.weights], damping=0.0)
    optimizer.step(closure)
    assert closure().item() < before
    assert abs(closure.weights[1].item()) > 0.1


@pytest.mark.parametrize(
    ("make", "settings"), [(newton, {}), (hessian_free, {}), (hessian_free, {"curvature": "hessian"})]
)
def test_a_network_learns_in_few_steps(make: Callable[..., Any], settings: Any) -> None:
    closure = Closure(network())
    optimizer = make(closure.model.parameters(), **settings)
    first = closure().item()
    losses = [optimizer.step(closure).item() for _ in range(15)]
    assert losses[0] == first
    assert all(b <= a for a, b in itertools.pairwise(losses)), "steps upwards are taken back"
    assert losses[-1] < 0.3 * first


def test_newton_refuses_more_than_5000_parameters() -> None:
    newton(nn.Linear(4, 1000).parameters())
    with pytest.raises(ValueError, match=r"at most 5,000 parameters, got 5,005; use optimizer=hessian_free"):
        newton(nn.Linear(4, 1001).parameters())


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (newton, {"damping": -1.0}, "damping must be at least 0, got -1"),
        (hessian_free, {"lr": 0.0}, "lr must be more than 0, got 0"),
        (hessian_free, {"iterations": 0}, "iterations must be at least 1, got 0"),
        (hessian_free, {"tolerance": 1.0}, "tolerance must be at least 0 and less than 1, got 1"),
    ],
)
def test_settings_outside_their_range_are_refused(make: Callable[..., Any], settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make([nn.Parameter(torch.ones(1))], **settings)
