"""The lectures' update rules replayed in plain Python on a quadratic of two dimensions, and what the lectures say of them.

f(x, y) = (x^2 + l y^2) / 2 from (-3, 1), a learning rate of 0.14, in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.training.optimizers import adagrad, adam, gradient_descent, newton, rmsprop, rprop, sgd, sign

EPS, DELTA, START = 0.14, 1e-8, (-3.0, 1.0)
Path = list[list[float]]
Rule = Callable[[float, float, dict[str, float]], float]
"""From a coordinate, its slope and what is kept of it to the next coordinate."""


def replayed(rule: Rule, steps: int, curvature: float = 13.0) -> Path:
    point, kept, path = list(START), [{"t": 0.0, "v": 0.0, "a": 0.0, "b": 0.0} for _ in START], []
    for _ in range(steps):
        for axis, bend in enumerate((1.0, curvature)):
            kept[axis]["t"] += 1
            point[axis] = rule(point[axis], bend * point[axis], kept[axis])
        path.append(list(point))
    return path


def descent(optimizer: torch.optim.Optimizer, at: nn.Parameter, curvature: float) -> Iterator[Any]:
    """After each step its point."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (at[0] ** 2 + curvature * at[1] ** 2) / 2
        loss.backward(create_graph=True)  # type: ignore[no-untyped-call]
        return loss

    while True:
        optimizer.step(closure)  # type: ignore[arg-type]
        yield at.tolist()


def trained(make: Callable[..., Any], steps: int, curvature: float = 13.0, **settings: Any) -> Path:
    at = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    path = descent(make([at], **settings), at, curvature)
    return [next(path) for _ in range(steps)]


def value(point: list[float], curvature: float) -> float:
    return (point[0] ** 2 + curvature * point[1] ** 2) / 2


def by_momentum(x: float, g: float, kept: dict[str, float]) -> float:
    kept["v"] = 0.9 * kept["v"] - EPS * g
    return x + kept["v"]


def by_sign(x: float, g: float, kept: dict[str, float]) -> float:
    return x - EPS * math.copysign(1, g)


def by_rmsprop(x: float, g: float, kept: dict[str, float]) -> float:
    kept["b"] = 0.9 * kept["b"] + 0.1 * g * g
    return x - EPS / (DELTA + math.sqrt(kept["b"])) * g


def by_adam(x: float, g: float, kept: dict[str, float]) -> float:
    """With the bias correction that the slides leave out."""
    kept["a"] = 0.9 * kept["a"] + 0.1 * g
    kept["b"] = 0.999 * kept["b"] + 0.001 * g * g
    a, b = kept["a"] / (1 - 0.9 ** kept["t"]), kept["b"] / (1 - 0.999 ** kept["t"])
    return x - EPS / (DELTA + math.sqrt(b)) * a


def by_adagrad(x: float, g: float, kept: dict[str, float]) -> float:
    kept["b"] += g * g
    return x - EPS / (DELTA + math.sqrt(kept["b"])) * g


RULES: list[tuple[Rule, Callable[..., Any], dict[str, Any]]] = [
    (lambda x, g, kept: x - EPS * g, gradient_descent, {}),
    (by_momentum, sgd, {"momentum": 0.9}),
    (by_sign, sign, {}),
    (by_rmsprop, rmsprop, {"alpha": 0.9, "eps": DELTA}),
    (by_adam, adam, {"eps": DELTA}),
    (by_adagrad, adagrad, {"eps": DELTA}),
]

pytestmark = pytest.mark.filterwarnings("ignore:Using backward")


@pytest.mark.parametrize(
    ("rule", "make", "settings"), RULES, ids=["descent", "momentum", "sign", "rmsprop", "adam", "adagrad"]
)
def test_property_ten_steps_of_the_lectures_update(rule: Rule, make: Callable[..., Any], settings: Any) -> None:
    found = trained(make, 10, lr=EPS, **settings)
    for one, other in zip(found, replayed(rule, 10), strict=True):
        # 1e-6: the fused kernels hold their constants, such as 1 - beta, in another precision
        assert one == pytest.approx(other, rel=1e-6, abs=1e-7)


def test_property_delta_stands_outside_the_root() -> None:
    """Of RMSprop and Adam: with a large one, the first step tells where it stands."""
    x, g = START[1], 13.0 * START[1]
    (point,) = trained(rmsprop, 1, lr=EPS, alpha=0.9, eps=2.0)
    assert point[1] == pytest.approx(x - EPS * g / (2 + math.sqrt(0.1 * g * g)))
    (point,) = trained(adam, 1, lr=EPS, eps=2.0)
    assert point[1] == pytest.approx(x - EPS * g / (2 + g))


@pytest.mark.parametrize("curvature", [5.0, 13.0, 14.2, 14.4, 16.0])
def test_property_descent_converges_where_eps_times_curvature_is_below_2(curvature: float) -> None:
    path = trained(gradient_descent, 400, curvature, lr=EPS)
    converges = EPS * curvature < 2
    assert (value(path[-1], curvature) < 1e-2 * value(list(START), curvature)) == converges


def test_descent_of_the_figures() -> None:
    """y overshoots at each of nine steps and shrinks at curvature 13; at 16 the value grows from 12.5 to 385."""
    ys = [START[1], *(y for _, y in trained(gradient_descent, 9, 13.0, lr=EPS))]
    assert all(a * b < 0 and abs(b) < abs(a) for a, b in itertools.pairwise(ys))
    assert value(list(START), 16.0) == 12.5
    assert value(trained(gradient_descent, 9, 16.0, lr=EPS)[-1], 16.0) == pytest.approx(385, abs=1)


@pytest.mark.parametrize(("curvature", "stable"), [(16.0, True), (27.0, True), (27.3, False)])
def test_property_momentum_is_stable_where_eps_times_curvature_is_below_2_plus_2_alpha(
    curvature: float, stable: bool
) -> None:
    assert stable == (EPS * curvature < 2 * (1 + 0.9))
    last = trained(sgd, 400, curvature, lr=EPS, momentum=0.9)[-1]
    assert (value(last, curvature) < 1e-2 * value(list(START), curvature)) == stable


@pytest.mark.parametrize("alpha", [0.9, 0.99])
def test_property_terminal_velocity_of_momentum(alpha: float) -> None:
    """On a slope of 1 each step is eps / (1 - alpha) in the end: 100 times eps at 0.99."""
    at = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = sgd([at], lr=1.0, momentum=alpha)
    for _ in range(2000):
        before = at.item()
        at.grad = torch.ones_like(at)
        optimizer.step()
    assert before - at.item() == pytest.approx(1 / (1 - alpha), abs=1e-5)


def test_property_each_step_of_sign_is_eps_long() -> None:
    path = [list(START), *trained(sign, 12, lr=EPS)]
    for one, other in itertools.pairwise(path):
        assert [abs(a - b) for a, b in zip(one, other, strict=True)] == pytest.approx([EPS, EPS])


def test_property_rates_of_rprop_grow_on_agreement_and_shrink_on_change() -> None:
    """y begins at 1 with step 0.4: 0.6, then 0.48 further, then over 0 by 0.576; then the step is halved and left out."""
    ys = [y for _, y in trained(rprop, 6, lr=0.4)]
    assert ys == pytest.approx([0.6, 0.12, -0.456, -0.456, -0.168, 0.1776])


def test_property_paths_of_rmsprop_and_adam_do_not_depend_on_the_curvature() -> None:
    for make, settings in ((rmsprop, {"alpha": 0.9}), (adam, {})):
        paths = [[y for _, y in trained(make, 15, curvature, lr=EPS, **settings)] for curvature in (5.0, 13.0, 16.0)]
        assert paths[0] == pytest.approx(paths[1], rel=1e-3, abs=1e-6)
        assert paths[0] == pytest.approx(paths[2], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("curvature", [5.0, 13.0, 16.0])
def test_rmsprop_of_the_figures(curvature: float) -> None:
    assert value(trained(rmsprop, 15, curvature, lr=EPS, alpha=0.9)[-1], curvature) == pytest.approx(0.1622, abs=1e-4)


def test_property_newton_is_at_the_minimum_of_a_quadratic_after_one_step() -> None:
    assert trained(newton, 1, damping=0.0)[0] == pytest.approx([0, 0], abs=1e-12)
