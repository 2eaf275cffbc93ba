"""The transform of every method that scales and shifts channels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """x * scale + shift for each channel, in float32."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    _tensors: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, images: Tensor) -> Tensor:
        if images.device not in self._tensors:
            self._tensors[images.device] = (self._tensor(self.scale, images), self._tensor(self.shift, images))
        scale, shift = self._tensors[images.device]
        # in place on the copy: three times as fast on a CPU as addcmul, whose broadcast is not vectorized (torch 2.15)
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift)

    @staticmethod
    def _tensor(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, 1, 1)


def affine(scale: np.ndarray, shift: np.ndarray, offset: float) -> Affine:
    """The transform of float64 statistics [C]; `offset` is added to the result."""
    return Affine(tuple(map(float, scale)), tuple(float(one) + offset if offset else float(one) for one in shift))


def unit(dtype: np.dtype[np.generic], channels: int) -> Affine:
    """Bytes to [0, 1]; floating-point images as they are."""
    return Affine((unit_of(dtype),) * channels, (0.0,) * channels)


def unit_of(dtype: np.dtype[np.generic]) -> float:
    """What a pixel is multiplied by before anything else: 1/255 for bytes, 1 for floating-point images."""
    return 1 / 255 if dtype == np.uint8 else 1.0


def finite(offset: float) -> float:
    """An offset, which has to be finite."""
    if not np.isfinite(offset):
        raise ValueError(f"offset must be finite, got {offset}")
    return offset
