"""Rprop: each parameter has a step size of its own, which grows while the sign of its gradient stays, for the gradient of the
whole training split.

Source: Riedmiller and Braun 1993, A direct adaptive method for faster backpropagation learning; in torch's form, where a step
after a change of sign is left out. Our deviation: the schedule multiplies all steps, which it does not in torch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from orchestrator.training.optimizers.lists import Group, ListOptimizer, require


def rprop(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    full_batch: bool = True,
) -> Rprop:
    """w = w - d sgn(g), where each d begins at lr and is multiplied by etas[1] where g kept its sign, by etas[0] where not.

    Args:
        step_sizes: the least and the largest d.
        full_batch: one step an epoch, by the gradient over the whole training split: the signs of mini-batches change by chance.

    Raises:
        ValueError: a setting is outside its range.
    """
    require("lr", lr, low=0, positive=True)
    require("etas[0]", etas[0], low=0, positive=True, below=1)
    require("etas[1]", etas[1], low=1, positive=True)
    require("step_sizes[0]", step_sizes[0], low=0)
    require("step_sizes[1]", step_sizes[1], low=step_sizes[0], positive=True)
    settings = {"lr": lr, "base_lr": lr, "etas": etas, "step_sizes": step_sizes}
    return Rprop(params, settings, full_batch=full_batch)


class Rprop(ListOptimizer):
    slots = ("previous", "step_size")

    def __init__(self, params: Iterable[nn.Parameter], defaults: Group, *, full_batch: bool) -> None:
        super().__init__(params, defaults)
        self.full_batch = full_batch

    def add_param_group(self, param_group: Group) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            if not p.is_meta:
                self.state[p]["step_size"].fill_(group["base_lr"])

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *slots: list[Tensor]) -> None:
        shrink, grow = group["etas"]
        for param, grad, previous, size in zip(params, grads, *slots, strict=True):
            agreement = (grad * previous).sign()
            size.mul_(torch.where(agreement > 0, grow, torch.where(agreement < 0, shrink, 1.0))).clamp_(
                *group["step_sizes"]
            )
            previous.copy_(torch.where(agreement < 0, 0.0, grad))
            param.addcmul_(previous.sign(), size, value=-group["lr"] / group["base_lr"])
