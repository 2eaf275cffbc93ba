"""Delta-orthogonal initialization: an orthogonal matrix in the middle of each kernel, zeros around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models import checks
from models.checks import RefusedError
from models.initializers.biases import Bias, biases
from models.initializers.gain import Gain, factor
from models.initializers.parameters import Weight, weights
from models.initializers.scheme import Needing, Scheme, by_weight


def delta_orthogonal(
    *, scale: float = 1.0, gain: Gain = "linear", bias: Bias = "constant", bias_value: float = 0.0
) -> Scheme:
    """Convolutions that keep the norm of every position: semi-orthogonal over channels, at the kernel's middle alone.

    A linear layer gets a semi-orthogonal matrix. In a grouped convolution the matrix of each group is one.

    Args:
        scale: multiplies the singular values of the matrices.
        gain: of the units, a number or the name of their activation: `linear`, `relu`, `leaky_relu`, `tanh`, `selu`.
        bias, bias_value: the rule of the biases, see `biases`.

    Raises:
        RefusedError: (when a network is there) none of its convolutions is over more than one position.

    Source: Xiao et al. 2018, Dynamical Isometry and a Mean Field Theory of CNNs, arXiv:1806.05393, section 2.6 and
    algorithm 1; our deviation: where a layer has fewer outputs than inputs, which the paper leaves out, the rows are
    orthonormal instead of the columns.
    """
    checks.positive("scale", scale)
    value = scale * factor(gain)

    def draw(weight: Weight, generator: torch.Generator) -> Tensor:
        outputs, inputs, *kernel = weight.tensor.shape
        groups = int(getattr(weight.module, "groups", 1))
        middle: Any = (slice(None), slice(None), *(size // 2 for size in kernel))
        values = torch.zeros(weight.tensor.shape, device=generator.device)
        for rows in values.chunk(groups):
            matrix = torch.empty(outputs // groups, inputs, device=generator.device)
            rows[middle] = nn.init.orthogonal_(matrix, gain=value, generator=generator)
        return values

    return Needing(check_kernels, by_weight(draw, biases(bias, bias_value)))


def check_kernels(model: nn.Module) -> None:
    """Refuses a network in which it would be `orthogonal` under another name."""
    if not any(weight.tensor[0, 0].numel() > 1 for weight in weights(model) if weight.tensor.ndim > 2):
        raise RefusedError(
            "delta_orthogonal is for convolutions over several positions, and this network has none; choose init=orthogonal"
        )
