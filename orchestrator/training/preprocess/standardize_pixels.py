"""Standardization of each dimension: each pixel of each channel to mean 0 and standard deviation 1 over the training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.training.preprocess.affine import finite, unit_of
from orchestrator.training.preprocess.pixelwise import Pixelwise, pixelwise
from orchestrator.training.preprocess.standardize import SMALLEST_STD
from orchestrator.training.preprocess.statistics import Preprocess, pixel_statistics


def standardize_pixels(*, offset: float = 0.0) -> Preprocess:
    """(x / 255 - mean) / std for each pixel; one that is constant over the training images is not divided.

    Args:
        offset: added to every value; a large one shows why inputs are centred.
    """
    return _StandardizePixels(finite(offset))


@dataclass(frozen=True)
class _StandardizePixels:
    offset: float

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Pixelwise:
        mean, std = pixel_statistics(images, ids)
        unit = unit_of(images.dtype)
        scale = 1 / np.where(std * unit < SMALLEST_STD, 1 / unit, std)
        return pixelwise(scale, self.offset - mean * scale)
