"""The catalogue's optimizers on functions of two variables: quadratics, a saddle, a plateau; and with noise in the gradient.

The functions of the lectures' figures are lost. These stand for them, as experiment E09 has it: (x^2 + l y^2) / 2 from (-3, 1),
(x^2 - y^2) / 2 from beside the ridge, and log(1 + 100 x^2) + log(1 + 100 y^2), which is flat but for a narrow pit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.training.device import set_up_here
from orchestrator.training.loop import backward_on_cpu
from orchestrator.training.optimizers import adagrad, adam, gradient_descent, newton, rmsprop, sgd, sign

Point = tuple[float, float]
Function = Callable[[Any, Any], Any]
"""From x and y, numbers or tensors of any shape, to the value."""

STEPS = 250
"""That are taken of each trajectory; figures show the first of them."""

RATE, NOISY_RATE = 0.14, 0.07
NOISE = 1.0
"""Standard deviation of the noise in each coordinate of the gradient."""

NOISY_STEPS, NOISY_SEEDS, NOISY_CURVATURE = 300, 20, 13.0

NOISE_WORDS = (
    f"normal noise of standard deviation {NOISE:g} in each coordinate of the gradient, {NOISY_SEEDS} ways of {NOISY_STEPS}"
    f" steps on the quadratic with l = {NOISY_CURVATURE:g}"
)

NOISY_MEASURES = (
    "roughness: the mean absolute second difference of the path; spread: the root mean square distance from the minimum over"
    " the last third"
)


@dataclass(frozen=True)
class Surface:
    """A function to be minimized.

    Args:
        shown: the steps that a figure shows.
        x, y: the part of the plane that it shows.
        goal: what is counted: steps until the value stays below 1 % of the first one (`settled`), until y is beyond 1 (`left`),
            until both coordinates are within 0.5 of 0 (`arrived`).
    """

    name: str
    function: Function = field(repr=False)
    start: Point
    shown: int
    x: tuple[float, float]
    y: tuple[float, float]
    goal: str


def quadratic(curvature: float) -> Surface:
    return Surface(
        f"quadratic, l = {curvature:g}",
        lambda x, y: (x * x + curvature * y * y) / 2,
        (-3.0, 1.0),
        *(20, (-3.5, 3.5), (-1.6, 1.6), "settled"),
    )


def _plateau(x: Any, y: Any) -> Any:
    log = torch.log if isinstance(x, Tensor) else math.log
    return log(1 + 100 * x * x) + log(1 + 100 * y * y)


SADDLE = Surface("saddle", lambda x, y: (x * x - y * y) / 2, (-3.0, 1e-3), *(100, (-3.5, 1.5), (-0.5, 3.0), "left"))
PLATEAU = Surface("plateau", _plateau, (-3.0, 1.0), *(60, (-3.5, 3.5), (-1.6, 1.6), "arrived"))
SURFACES = (quadratic(5), quadratic(13), quadratic(16), SADDLE, PLATEAU)


@dataclass(frozen=True)
class Method:
    """An optimizer of the catalogue with its settings; `rate` is None where it has none to choose."""

    name: str
    make: Callable[..., torch.optim.Optimizer] = field(repr=False)
    rate: float | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def on(self, at: nn.Parameter) -> torch.optim.Optimizer:
        rate = {} if self.rate is None else {"lr": self.rate}
        return self.make([at], **rate, **self.settings)


def methods(rate: float = RATE) -> tuple[Method, ...]:
    """Those that are compared, at one learning rate."""
    return (
        Method("gradient descent", gradient_descent, rate),
        Method("momentum 0.9", sgd, rate, {"momentum": 0.9}),
        Method("Nesterov 0.9", sgd, rate, {"momentum": 0.9, "nesterov": True}),
        Method("RMSprop", rmsprop, rate, {"alpha": 0.9}),
        Method("Adam", adam, rate),
        Method("Adagrad", adagrad, rate),
        Method("sign", sign, rate),
        Method("Newton", newton, None, {"damping": 0.0}),
    )


@dataclass(frozen=True)
class Trajectory:
    """The way of a method over a surface.

    Args:
        points: the start and the steps that are shown.
        values: at the start and after each of `STEPS` steps.
        steps: until the goal of the surface; None where it was not reached.
    """

    surface: str
    method: str
    points: tuple[Point, ...]
    values: tuple[float, ...] = field(repr=False)
    steps: int | None


@dataclass(frozen=True)
class Noisy:
    """A method under noise on the quadratic with l = 13, over `NOISY_SEEDS` seeds.

    Args:
        roughness: mean absolute second difference of the path.
        spread: root of the mean squared distance from the minimum over the last third.
    """

    method: str
    rate: float
    roughness: float
    spread: float


@dataclass(frozen=True)
class Trajectories:
    """All methods on all surfaces, and those of the lectures under noise."""

    rate: float
    surfaces: tuple[Surface, ...]
    methods: tuple[Method, ...]
    ways: tuple[Trajectory, ...]
    noisy: tuple[Noisy, ...]

    def ways_of(self, method: str) -> list[Trajectory]:
        """Of one method, surface by surface."""
        return [way for way in self.ways if way.method == method]


def trajectories(rate: float = RATE) -> Trajectories:
    """Everything, in about a second.

    Raises:
        ValueError: the learning rate is not above 0.
    """
    compared = methods(rate)
    with set_up_here(torch.device("cpu"), 1):  # more threads would wait for each other
        ways = tuple(trajectory(surface, method) for surface in SURFACES for method in compared)
        under_noise = tuple(noisy(method) for method in noisy_methods())
    return Trajectories(rate, SURFACES, compared, ways, under_noise)


def trajectory(surface: Surface, method: Method, steps: int = STEPS) -> Trajectory:
    """One way; it ends where the value is not finite any more."""
    points: list[Point] = [surface.start]
    for point in descent(surface, method, steps):
        if not all(map(math.isfinite, point)) or max(map(abs, point)) > 1e12:
            break
        points.append(point)
    values = tuple(float(surface.function(*point)) for point in points)
    reached = GOALS[surface.goal](points, values) if len(points) == steps + 1 or surface.goal != "settled" else None
    return Trajectory(surface.name, method.name, tuple(points[: surface.shown + 1]), values, reached)


def descent(surface: Surface, method: Method, steps: int) -> Iterator[Point]:
    """The point after each step."""
    for at in _steps(surface, method, steps, torch.tensor([surface.start], dtype=torch.float64)):
        ((x, y),) = at.tolist()
        yield x, y


def _steps(
    surface: Surface, method: Method, steps: int, starts: Tensor, noise: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Several ways at once, [ways, 2] in float64, of optimizers that take each coordinate by itself."""
    at = nn.Parameter(starts.clone())
    optimizer = method.on(at)
    backward = backward_on_cpu(bool(getattr(optimizer, "needs_graph", False)))

    def closure() -> Tensor:
        at.grad = None
        value: Tensor = surface.function(at[:, 0], at[:, 1]).sum()
        backward(value)
        if noise is not None:
            assert at.grad is not None
            at.grad += NOISE * torch.randn(at.shape, generator=noise, dtype=torch.float64)
        return value

    for _ in range(steps):
        optimizer.step(closure)  # type: ignore[arg-type]
        yield at.detach()


def _settled(points: Sequence[Point], values: Sequence[float]) -> int | None:
    above = [step for step, value in enumerate(values) if value >= 0.01 * values[0]]
    return above[-1] + 1 if above[-1] + 1 < len(values) else None


def _left(points: Sequence[Point], values: Sequence[float]) -> int | None:
    return next((step for step, (_, y) in enumerate(points) if abs(y) > 1), None)


def _arrived(points: Sequence[Point], values: Sequence[float]) -> int | None:
    return next((step for step, (x, y) in enumerate(points) if max(abs(x), abs(y)) < 0.5), None)


GOALS: dict[str, Callable[[Sequence[Point], Sequence[float]], int | None]] = {
    "settled": _settled,
    "left": _left,
    "arrived": _arrived,
}


def noisy_methods() -> tuple[Method, ...]:
    """Those of the lectures; momentum at the same rate, and at the same effective step rate / (1 - alpha)."""
    rate = NOISY_RATE
    return (
        Method("gradient descent", gradient_descent, rate),
        Method("momentum 0.9", sgd, rate, {"momentum": 0.9}),
        Method("momentum 0.9, equal effective step", sgd, rate * (1 - 0.9), {"momentum": 0.9}),
        Method("RMSprop", rmsprop, rate, {"alpha": 0.9}),
        Method("Adam", adam, rate),
    )


def noisy(method: Method) -> Noisy:
    """A method under noise."""
    surface = quadratic(NOISY_CURVATURE)
    starts = torch.tensor([surface.start] * NOISY_SEEDS, dtype=torch.float64)
    noise = torch.Generator().manual_seed(0)
    path = torch.stack([at.clone() for at in _steps(surface, method, NOISY_STEPS, starts, noise)])
    roughness = (path[2:] - 2 * path[1:-1] + path[:-2]).abs().mean().item()
    spread = path[2 * NOISY_STEPS // 3 :].square().sum(2).mean().sqrt().item()
    assert method.rate is not None
    return Noisy(method.name, method.rate, roughness, spread)
