"""Adam, with weight decay as part of the gradient.

Source: Kingma and Ba 2015, Adam: a method for stochastic optimization, arXiv:1412.6980.
Our deviation: the step count for the bias correction is the group's, not each parameter's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.training import private
from orchestrator.training.optimizers.lists import Group, ListOptimizer, require
from orchestrator.training.optimizers.parameters import Decay, NamedParameter, decaying


def adam(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decay: Decay = "all",
    named_params: Iterable[NamedParameter] | None = None,
) -> Adam:
    """Adam: steps of about lr in each coordinate, by running means of the gradient and of its square.

    Args:
        decay: which parameters decay, all or weights alone: not biases and norms (`decay_groups`).

    Raises:
        ValueError: a setting is outside its range.
    """
    return Adam(decaying(params, named_params, decay, weight_decay), settings(lr, betas, eps, weight_decay))


def settings(lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> Group:
    """The checked settings of an Adam-like optimizer."""
    require("lr", lr, low=0, positive=True)
    require("betas[0]", betas[0], low=0, below=1)
    require("betas[1]", betas[1], low=0, below=1)
    require("eps", eps, low=0)
    require("weight_decay", weight_decay, low=0)
    return {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "step": 0}


class Adam(ListOptimizer):
    slots = ("exp_avg", "exp_avg_sq")
    kernel: Callable[..., Any] = staticmethod(private.adam_)

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *slots: list[Tensor]) -> None:
        group["step"] += 1
        # the kernel reads its step count from a tensor a parameter; one serves all
        step = torch.full((), float(group["step"]), device=params[0].device)
        beta1, beta2 = group["betas"]
        self.kernel(
            params,
            grads,
            *slots,
            [],
            [step] * len(params),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
