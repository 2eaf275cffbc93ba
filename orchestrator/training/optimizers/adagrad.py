"""Adagrad: the gradient divided by the root of the sum of its squares so far.

Source: Duchi, Hazan and Singer 2011, Adaptive subgradient methods; in torch's form.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from orchestrator.training import private
from orchestrator.training.optimizers.lists import Group, ListOptimizer, require
from orchestrator.training.optimizers.parameters import Decay, NamedParameter, decaying


def adagrad(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-2,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    decay: Decay = "all",
    named_params: Iterable[NamedParameter] | None = None,
) -> Adagrad:
    """Adagrad: s = s + g^2; w = w - lr g / (sqrt(s) + eps).

    Args:
        decay: which parameters decay, all or weights alone: not biases and norms (`decay_groups`).

    Raises:
        ValueError: a setting is outside its range.
    """
    require("lr", lr, low=0, positive=True)
    require("eps", eps, low=0)
    require("weight_decay", weight_decay, low=0)
    return Adagrad(
        decaying(params, named_params, decay, weight_decay), {"lr": lr, "eps": eps, "weight_decay": weight_decay}
    )


class Adagrad(ListOptimizer):
    slots = ("sum",)

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *slots: list[Tensor]) -> None:
        if group["weight_decay"]:
            grads = list(private.add(grads, params, alpha=group["weight_decay"]))
        private.addcmul_(slots[0], grads, grads)
        roots = private.sqrt(slots[0])
        private.add_(roots, group["eps"])
        private.addcdiv_(params, grads, roots, value=-group["lr"])
