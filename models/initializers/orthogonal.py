"""Orthogonal initialization: all singular values of a weight matrix are equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import checks
from models.initializers.parameters import Weight
from models.initializers.scheme import Scheme, by_weight


def orthogonal(*, scale: float = 1.0) -> Scheme:
    """Random semi-orthogonal matrices times `scale`, which all singular values then equal.

    A convolution's weight is taken as a matrix of one row for each output channel.

    Source: Saxe et al. 2014, Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear Neural Networks,
    arXiv:1312.6120.
    """
    checks.positive("scale", scale)

    def draw(weight: Weight, generator: torch.Generator) -> Tensor:
        values = torch.empty(weight.tensor.shape, device=generator.device)
        return nn.init.orthogonal_(values, gain=scale, generator=generator)

    return by_weight(draw)
