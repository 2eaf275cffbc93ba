"""Scaling alone: bytes to [0, 1], floating-point images as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.training.preprocess.affine import Affine, affine, finite, unit_of
from orchestrator.training.preprocess.statistics import Preprocess


def scale(*, offset: float = 0.0) -> Preprocess:
    """x / 255; the same for every data set.

    Args:
        offset: added to every value; a large one shows why inputs are centred.
    """
    return _Scale(finite(offset))


@dataclass(frozen=True)
class _Scale:
    offset: float

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Affine:
        del ids
        channels = images.shape[1]
        return affine(np.full(channels, unit_of(images.dtype)), np.zeros(channels), self.offset)
