"""What Newton's method and Hessian-free optimization have in common: steps by a damped model of the curvature.

Source: Martens 2010, Deep learning via Hessian-free optimization, section 4.1 (the rule of Levenberg and Marquardt).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from orchestrator.training import private
from orchestrator.training.optimizers.lists import Group, LightOptimizer, require

Product = Callable[[Tensor], Tensor]
"""The curvature times a vector."""

LEAST_DAMPING = 1e-3
"""Where damping has to be raised from 0."""


def damped_settings(lr: float, damping: float) -> Group:
    """The checked settings that both have."""
    require("lr", lr, low=0, positive=True)
    require("damping", damping, low=0)
    return {"lr": lr, "damping": damping}


class DampedOptimizer(LightOptimizer):
    """w = w - lr d, where (B + damping I) d = g for a curvature B, on the batch.

    A step after which the batch's objective is higher is taken back, and damping is raised fourfold. Otherwise it changes
    by a half where the objective fell by less than a quarter, or by a third where by more than three quarters, of what the
    curvature made expect. That takes the objective twice a step, with the same random numbers: dropout leaves the same out.
    """

    needs_graph = True

    @abstractmethod
    def direction(
        self, closure: Any, params: Sequence[Tensor], gradient: Tensor, damping: float
    ) -> tuple[Tensor, Product, float]:
        """d, products with B, and the damping that was taken, which is higher where a solution needed it.

        Args:
            closure: after its call.
            gradient: of all parameters in one vector, without its graph, which the gradients of `params` have.
        """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        if closure is None:
            raise ValueError("second-order optimizers evaluate the loss themselves: step(closure)")
        draws = Draws(self.param_groups[0]["params"][0].device)
        objective = closure()
        used = [(p, group["lr"]) for group in self.param_groups for p in group["params"] if p.grad is not None]
        params, grads = [p for p, _ in used], [p.grad for p, _ in used]
        gradient = flat(grads).detach()
        direction, product, damping = self.direction(closure, params, gradient, self.param_groups[0]["damping"])
        rates = torch.cat([torch.full((p.numel(),), lr, dtype=p.dtype, device=p.device) for p, lr in used])
        change = rates * direction
        expected = float(gradient @ change - change @ product(change) / 2)
        before = [p.detach().clone() for p in params]
        with torch.no_grad():
            for p, part in zip(params, parts(change, params), strict=True):
                p -= part
        with draws.again():
            fell = float(objective.detach() - closure().detach())
        if not fell >= 0:  # not a number, too
            with torch.no_grad():
                for p, old in zip(params, before, strict=True):
                    p.copy_(old)
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        self._set_damping(damping, fell, expected)
        return objective

    # torch wraps `step` in profiler hooks unless it is marked as wrapped already
    step.hooked = True  # type: ignore[attr-defined]

    def _set_damping(self, damping: float, fell: float, expected: float) -> None:
        if not fell >= 0:
            damping = max(4 * damping, LEAST_DAMPING)
        elif fell < expected / 4:
            damping *= 3 / 2
        elif fell > 3 * expected / 4:
            damping *= 2 / 3
        for group in self.param_groups:
            group["damping"] = damping


class Draws:
    """The states of the generators from which layers draw, those of the CPU and of one device, at the time when it is made."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._before = device, self._states(device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within the block the same numbers are drawn as since this was made; afterwards all goes on as if it had not been."""
        now = self._states(self._device)
        self._set(self._before)
        try:
            yield
        finally:
            self._set(now)

    def _set(self, states: tuple[Tensor, ...]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self._device)

    @staticmethod
    def _states(device: torch.device) -> tuple[Tensor, ...]:
        return (
            torch.get_rng_state(),
            *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else []),
        )


def flat(tensors: Iterable[Tensor | None]) -> Tensor:
    """All numbers in one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors if tensor is not None])


def parts(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The vector cut into tensors of these shapes."""
    cut = torch.split(vector, [tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(cut, like, strict=True)]


def derivative(
    ys: Sequence[Tensor], xs: Sequence[Tensor], along: Sequence[Tensor], *, create_graph: bool = False
) -> list[Tensor]:
    """The gradient of sum(y * along) by each x; 0 where no y depends on it. The graph is kept.

    Args:
        create_graph: whether the gradient can be differentiated.
    """
    pairs = [(y, v) for y, v in zip(ys, along, strict=True) if y.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in xs]
    given, weights = zip(*pairs, strict=True)
    found = private.gradients(given, xs, weights, create_graph)
    return [torch.zeros_like(x) if grad is None else grad for x, grad in zip(xs, found, strict=True)]
