"""Gradient descent: one step an epoch, by the gradient over the whole training split.

Source: Cauchy 1847; with momentum Polyak 1964.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from orchestrator.training.optimizers.parameters import Decay, NamedParameter, decaying
from orchestrator.training.optimizers.sgd import SGD, settings


def gradient_descent(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 0.1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    decay: Decay = "all",
    named_params: Iterable[NamedParameter] | None = None,
) -> GradientDescent:
    """v = momentum v + (g + weight_decay w); w = w - lr v, once an epoch.

    The gradient is summed over batches of `batch_size`, which changes the memory that it takes and, but for batch normalization
    and rounding, not the result.

    Args:
        decay: which parameters decay, all or weights alone: not biases and norms (`decay_groups`).

    Raises:
        ValueError: a setting is outside its range.
    """
    parameters = decaying(params, named_params, decay, weight_decay)
    return GradientDescent(parameters, settings(lr, momentum, weight_decay, nesterov=False))


class GradientDescent(SGD):
    full_batch = True
