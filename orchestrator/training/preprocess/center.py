"""Centring: each channel to mean 0 over the training images, in the unit of the pixel range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.training.preprocess.affine import Affine, affine, finite, unit_of
from orchestrator.training.preprocess.statistics import Preprocess, channel_statistics


def center(*, offset: float = 0.0) -> Preprocess:
    """x / 255 - mean for each channel.

    Args:
        offset: added to every value; a large one shows why inputs are centred.
    """
    return _Center(finite(offset))


@dataclass(frozen=True)
class _Center:
    offset: float

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Affine:
        mean, _ = channel_statistics(images, ids)
        scale = np.full(len(mean), unit_of(images.dtype))
        return affine(scale, -mean * scale, self.offset)
