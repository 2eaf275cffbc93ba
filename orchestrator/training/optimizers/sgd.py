"""Stochastic gradient descent with momentum.

Source: Sutskever et al. 2013, On the importance of initialization and momentum in deep learning; in torch's form, where the
learning rate multiplies the velocity.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from orchestrator.training import private
from orchestrator.training.optimizers.lists import Group, ListOptimizer, require
from orchestrator.training.optimizers.parameters import Decay, NamedParameter, decaying


def sgd(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    decay: Decay = "all",
    named_params: Iterable[NamedParameter] | None = None,
) -> SGD:
    """Gradient descent: v = momentum v + (g + weight_decay w); w = w - lr v (Nesterov: w - lr (g + momentum v)).

    Args:
        decay: which parameters decay, all or weights alone: not biases and norms (`decay_groups`).

    Raises:
        ValueError: a setting is outside its range.
    """
    return SGD(decaying(params, named_params, decay, weight_decay), settings(lr, momentum, weight_decay, nesterov))


def settings(lr: float, momentum: float, weight_decay: float, nesterov: bool) -> Group:
    """The checked settings of gradient descent."""
    require("lr", lr, low=0, positive=True)
    require("momentum", momentum, low=0, below=1)
    require("weight_decay", weight_decay, low=0)
    if nesterov and momentum == 0:
        raise ValueError("nesterov=true needs momentum above 0, got momentum=0")
    return {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}


class SGD(ListOptimizer):
    slots = ("momentum_buffer",)

    def used(self, group: Group) -> tuple[str, ...]:
        return self.slots if group["momentum"] else ()

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *slots: list[Tensor]) -> None:
        private.sgd_(
            params,
            grads,
            slots[0] if slots else [],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
            is_first_step=False,
        )
