"""Newton's method with the exact Hessian of each batch, for small models.

Source: Nocedal and Wright 2006, Numerical optimization, section 3.4: where the Hessian is not positive definite, a multiple of
the identity is added until it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.training.optimizers.damped import (
    LEAST_DAMPING,
    DampedOptimizer,
    Product,
    damped_settings,
    flat,
)

MOST_PARAMETERS = 5_000

ROWS_AT_ONCE = 256
"""Of the Hessian, computed in one pass backwards."""


def newton(params: Iterable[nn.Parameter], *, lr: float = 1.0, damping: float = 1.0) -> Newton:
    """w = w - lr (H + damping I)^-1 g, with the Hessian and the gradient of the batch.

    Damping adapts itself: see `DampedOptimizer`. With a batch_size of the whole training split it is Newton's method proper.

    Raises:
        ValueError: a setting is outside its range, or there are more than 5,000 parameters.
    """
    settings = damped_settings(lr, damping)
    optimizer = Newton(params, settings)
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    if count > MOST_PARAMETERS:
        raise ValueError(
            f"keeps the Hessian, a number for each pair of parameters, and takes at most {MOST_PARAMETERS:,} parameters,"
            f" got {count:,}; use optimizer=hessian_free, or a smaller model"
        )
    return optimizer


class Newton(DampedOptimizer):
    def direction(
        self, closure: Any, params: Sequence[Tensor], gradient: Tensor, damping: float
    ) -> tuple[Tensor, Product, float]:
        matrix = hessian(params)
        if not matrix.isfinite().all():
            return gradient, torch.zeros_like, damping
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        factor, failed = torch.linalg.cholesky_ex(matrix + damping * identity)
        while failed:
            damping = max(4 * damping, LEAST_DAMPING)
            factor, failed = torch.linalg.cholesky_ex(matrix + damping * identity)
        solved = torch.cholesky_solve(gradient.double()[:, None], factor)[:, 0]
        return solved.to(gradient.dtype), lambda v: (matrix @ v.double()).to(v.dtype), damping


def hessian(params: Sequence[Tensor]) -> Tensor:
    """The second derivatives of what the parameters' gradients are of, [N, N] in float64."""
    gradient = flat(p.grad for p in params)
    count = len(gradient)
    if not gradient.requires_grad:
        return torch.zeros(count, count, dtype=torch.float64, device=gradient.device)
    bands = []
    for start in range(0, count, ROWS_AT_ONCE):
        rows = torch.zeros(min(ROWS_AT_ONCE, count - start), count, dtype=gradient.dtype, device=gradient.device)
        rows[:, start:].fill_diagonal_(1)
        found = torch.autograd.grad(gradient, params, rows, is_grads_batched=True, retain_graph=True, allow_unused=True)
        columns = [
            torch.zeros(len(rows), p.numel(), dtype=p.dtype, device=p.device) if h is None else h.flatten(1)
            for p, h in zip(params, found, strict=True)
        ]
        bands.append(torch.cat(columns, 1).double())
    return torch.cat(bands)
