"""Hessian-free optimization: Newton's equation solved by conjugate gradients, which need products with the curvature only.

Source: Martens 2010, Deep learning via Hessian-free optimization; the products are those of Pearlmutter 1994 (Hessian) and
Schraudolph 2002 (Gauss-Newton). Our deviations: each solution begins at 0, without preconditioning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.outputs import Outputs
from orchestrator.training.optimizers.damped import (
    DampedOptimizer,
    Product,
    damped_settings,
    derivative,
    flat,
    parts,
)
from orchestrator.training.optimizers.lists import Group, require


def hessian_free(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1.0,
    damping: float = 1.0,
    curvature: Literal["gauss_newton", "hessian"] = "gauss_newton",
    iterations: int = 50,
    tolerance: float = 1e-3,
) -> HessianFree:
    """w = w - lr d, where conjugate gradients solve (B + damping I) d = g on the batch; the damping adapts itself.

    Args:
        curvature: B: the Hessian, or that of the loss by the outputs between their derivatives by the parameters
            (Gauss-Newton), which has no negative curvature. A penalty's own Hessian is added to it.
        iterations: at most so many, and at most as many as there are parameters.
        tolerance: the solution's error |g - (B + damping I) d| as a share of |g|.

    Raises:
        ValueError: a setting is outside its range.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    require("tolerance", tolerance, low=0, below=1)
    settings = {"iterations": iterations, "tolerance": tolerance, "curvature": curvature}
    return HessianFree(params, {**damped_settings(lr, damping), **settings})


class HessianFree(DampedOptimizer):
    def direction(
        self, closure: Any, params: Sequence[Tensor], gradient: Tensor, damping: float
    ) -> tuple[Tensor, Product, float]:
        group: Group = self.param_groups[0]
        product = hessian_product(params) if group["curvature"] == "hessian" else gauss_newton_product(closure, params)
        solved, _ = conjugate_gradient(
            lambda v: product(v) + damping * v,
            gradient,
            iterations=group["iterations"],
            tolerance=group["tolerance"],
        )
        return solved, product, damping


def hessian_product(params: Sequence[Tensor]) -> Product:
    """The Hessian of what the parameters' gradients are of, times a vector."""
    grads = [p.grad for p in params if p.grad is not None]
    return lambda vector: flat(derivative(grads, params, parts(vector, params)))


def gauss_newton_product(closure: Any, params: Sequence[Tensor]) -> Product:
    """J^T L J, times a vector: J the derivative of the outputs by the parameters, L the loss's Hessian by the outputs.

    Args:
        closure: after its call, with the `loss`, the `outputs` and the `penalty` of then.
    """
    outputs = closure.outputs
    zs = [outputs.main, *outputs.auxiliary] if isinstance(outputs, Outputs) else [outputs]
    slopes = _slopes(closure.loss, zs)
    # J^T u is linear in u: its derivative by u, along v, is J v
    us = [torch.zeros_like(z, requires_grad=True) for z in zs]
    pulled = derivative(zs, params, us, create_graph=True)
    extra = [] if closure.penalty is None else _slopes(closure.penalty, params)

    def product(vector: Tensor) -> Tensor:
        along = parts(vector, params)
        curved = derivative(slopes, zs, derivative(pulled, us, along))
        result = flat(derivative(zs, params, curved))
        return result + flat(derivative(extra, params, along)) if extra else result

    return product


def _slopes(scalar: Tensor, xs: Sequence[Tensor]) -> list[Tensor]:
    return derivative([scalar], xs, [torch.ones_like(scalar)], create_graph=True)


def conjugate_gradient(
    product: Product, target: Tensor, *, iterations: int, tolerance: float = 0.0
) -> tuple[Tensor, int]:
    """x with product(x) = target, from x = 0, and the number of products.

    Where a direction has no positive curvature it ends with what there is, or with `target`.

    Source: Hestenes and Stiefel 1952; the end at negative curvature is that of Nocedal and Wright 2006, algorithm 7.1.
    """
    x, residual, direction = torch.zeros_like(target), target, target
    square = first = float(residual @ residual)
    for count in range(min(iterations, len(target))):
        if square <= tolerance**2 * first:
            return x, count
        curved = product(direction)
        curvature = float(direction @ curved)
        if not curvature > 0:
            return (x if count else target), count + 1
        x = x + square / curvature * direction
        residual = residual - square / curvature * curved
        former, square = square, float(residual @ residual)
        direction = residual + square / former * direction
    return x, min(iterations, len(target))
