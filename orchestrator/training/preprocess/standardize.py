"""Standardization: each channel to mean 0 and standard deviation 1 over the training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.training.preprocess.affine import Affine, affine, finite, unit_of
from orchestrator.training.preprocess.statistics import Preprocess, channel_statistics

SMALLEST_STD = 1e-6
"""In units of the full pixel range; a channel below it is constant and becomes 0 instead of being divided by it."""


def standardize(*, offset: float = 0.0) -> Preprocess:
    """(x / 255 - mean) / std for each channel.

    Args:
        offset: added to every value; a large one shows why inputs are centred.
    """
    return _Standardize(finite(offset))


@dataclass(frozen=True)
class _Standardize:
    offset: float

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Affine:
        mean, std = channel_statistics(images, ids)
        constant = std * unit_of(images.dtype) < SMALLEST_STD
        scale = 1 / np.where(constant, 1 / unit_of(images.dtype), std)
        return affine(scale, -mean * scale, self.offset)
