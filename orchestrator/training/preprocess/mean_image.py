"""Subtracting the mean image: each pixel of each channel to mean 0 over the training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.training.preprocess.affine import finite, unit_of
from orchestrator.training.preprocess.pixelwise import Pixelwise, pixelwise
from orchestrator.training.preprocess.statistics import Preprocess, pixel_statistics


def mean_image(*, offset: float = 0.0) -> Preprocess:
    """x / 255 - mean for each pixel, with a mean of [C, H, W].

    Args:
        offset: added to every value; a large one shows why inputs are centred.

    Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, section 2.
    """
    return _MeanImage(finite(offset))


@dataclass(frozen=True)
class _MeanImage:
    offset: float

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Pixelwise:
        mean, _ = pixel_statistics(images, ids)
        unit = unit_of(images.dtype)
        return pixelwise(np.full(mean.shape, unit), self.offset - unit * mean)
