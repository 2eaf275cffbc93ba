"""Adam with decoupled weight decay.

Source: Loshchilov and Hutter 2019, Decoupled weight decay regularization, arXiv:1711.05101; in torch's form, where the decay of a
step is lr * weight_decay.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from orchestrator.training import private
from orchestrator.training.optimizers.adam import Adam, settings
from orchestrator.training.optimizers.parameters import Decay, NamedParameter, decaying


def adamw(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    decay: Decay = "all",
    named_params: Iterable[NamedParameter] | None = None,
) -> AdamW:
    """Adam whose weight decay acts on the weights directly, not through the running means.

    Args:
        decay: which parameters decay, all or weights alone: not biases and norms (`decay_groups`).

    Raises:
        ValueError: a setting is outside its range.
    """
    return AdamW(decaying(params, named_params, decay, weight_decay), settings(lr, betas, eps, weight_decay))


class AdamW(Adam):
    decoupled = True
    kernel = staticmethod(private.adamw_)
