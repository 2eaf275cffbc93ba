"""Steps by the sign of the gradient alone, for the gradient of the whole training split.

Source: the "Manhattan-learning" in Riedmiller and Braun 1993, A direct adaptive method for faster backpropagation learning; of
mini-batches it is signSGD: Bernstein et al. 2018, arXiv:1802.04434.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.training import private
from orchestrator.training.optimizers.lists import Group, ListOptimizer, require
from orchestrator.training.optimizers.parameters import Decay, NamedParameter, decaying


def sign(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    decay: Decay = "all",
    full_batch: bool = True,
    named_params: Iterable[NamedParameter] | None = None,
) -> Sign:
    """w = w - lr sgn(g): a step of lr in every coordinate, and of 0 where the gradient is 0.

    Args:
        weight_decay: decoupled, as that of adamw; in the gradient it would only change signs.
        decay: which parameters decay, all or weights alone: not biases and norms (`decay_groups`).
        full_batch: one step an epoch, by the gradient over the whole training split.

    Raises:
        ValueError: a setting is outside its range.
    """
    require("lr", lr, low=0, positive=True)
    require("weight_decay", weight_decay, low=0)
    parameters = decaying(params, named_params, decay, weight_decay)
    return Sign(parameters, {"lr": lr, "weight_decay": weight_decay}, full_batch=full_batch)


class Sign(ListOptimizer):
    decoupled = True

    def __init__(self, params: Iterable[Any], defaults: Group, *, full_batch: bool) -> None:
        super().__init__(params, defaults)
        self.full_batch = full_batch

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *slots: list[Tensor]) -> None:
        if group["weight_decay"]:
            private.mul_(params, 1 - group["lr"] * group["weight_decay"])
        private.add_(params, [torch.sign(grad) for grad in grads], alpha=-group["lr"])
