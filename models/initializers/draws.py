"""Random numbers, drawn on the device of their generator: a seed gives the same values for every device."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor


def normal_values(shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    """Independent, from N(0, std^2)."""
    return torch.empty(shape, device=generator.device).normal_(0, std, generator=generator)


def uniform_values(shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    """Independent, from U(-a, a) with a = sqrt(3) std, whose standard deviation is `std`."""
    bound = sqrt(3) * std
    return torch.empty(shape, device=generator.device).uniform_(-bound, bound, generator=generator)
