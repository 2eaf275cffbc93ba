"""RMSprop: the gradient divided by the root of a running mean of its square.

Source: Hinton, Srivastava and Swersky 2012, Neural networks for machine learning, lecture 6e; in torch's form.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from orchestrator.training import private
from orchestrator.training.optimizers.lists import Group, ListOptimizer, require
from orchestrator.training.optimizers.parameters import Decay, NamedParameter, decaying


def rmsprop(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-3,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    decay: Decay = "all",
    named_params: Iterable[NamedParameter] | None = None,
) -> RMSprop:
    """RMSprop: s = alpha s + (1 - alpha) g^2; v = momentum v + g / (sqrt(s) + eps); w = w - lr v.

    Args:
        decay: which parameters decay, all or weights alone: not biases and norms (`decay_groups`).

    Raises:
        ValueError: a setting is outside its range.
    """
    require("lr", lr, low=0, positive=True)
    require("alpha", alpha, low=0, below=1)
    require("eps", eps, low=0)
    require("momentum", momentum, low=0, below=1)
    require("weight_decay", weight_decay, low=0)
    settings = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
    return RMSprop(decaying(params, named_params, decay, weight_decay), settings)


class RMSprop(ListOptimizer):
    slots = ("square_avg", "momentum_buffer")

    def used(self, group: Group) -> tuple[str, ...]:
        return self.slots if group["momentum"] else self.slots[:1]

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *slots: list[Tensor]) -> None:
        if group["weight_decay"]:
            grads = list(private.add(grads, params, alpha=group["weight_decay"]))
        square_avgs = slots[0]
        private.mul_(square_avgs, group["alpha"])
        private.addcmul_(square_avgs, grads, grads, value=1 - group["alpha"])
        roots = private.sqrt(square_avgs)
        private.add_(roots, group["eps"])
        if group["momentum"]:
            private.mul_(slots[1], group["momentum"])
            private.addcdiv_(slots[1], grads, roots)
            private.add_(params, slots[1], alpha=-group["lr"])
        else:
            private.addcdiv_(params, grads, roots, value=-group["lr"])
