"""The transform of every method that scales and shifts each pixel of each channel by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pixelwise:
    """x * scale + shift, in float32.

    Args:
        scale, shift: float32 [C, H, W], on the CPU.
    """

    scale: Tensor
    shift: Tensor
    _moved: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        if images.device not in self._moved:
            self._moved[images.device] = (self.scale.to(images.device), self.shift.to(images.device))
        scale, shift = self._moved[images.device]
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift)


def pixelwise(scale: np.ndarray, shift: np.ndarray) -> Pixelwise:
    """The transform of float64 statistics [C, H, W]."""
    return Pixelwise(torch.from_numpy(scale.astype(np.float32)), torch.from_numpy(shift.astype(np.float32)))
