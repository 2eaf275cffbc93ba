"""Whitening: images turned to the axes in which the training images vary, and brought to variance 1 on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from orchestrator.training.preprocess.affine import finite
from orchestrator.training.preprocess.principal import check_size, projection
from orchestrator.training.preprocess.projection import Projection
from orchestrator.training.preprocess.statistics import Preprocess


def whiten(*, epsilon: float = 1e-5, offset: float = 0.0) -> Preprocess:
    """(x / 255 - mean) V / sqrt(variances + epsilon): `pca`, and the covariance of the training images becomes 1.

    Args:
        epsilon: of the variance of pixels in [0, 1]; keeps what hardly varies from being blown up.
        offset: added to every value; a large one shows why inputs are centred.

    Raises:
        ValueError: epsilon is not positive; or, when it is called: the images are too large for a matrix.
    """
    if not (epsilon > 0 and np.isfinite(epsilon)):
        raise ValueError(f"epsilon must be positive and finite, got {epsilon}")
    return _Whiten(epsilon, finite(offset))


@dataclass(frozen=True)
class _Whiten:
    epsilon: float
    offset: float
    makes_vectors: ClassVar[bool] = True

    def check_size(self, shape: Sequence[int]) -> None:
        check_size(shape, "whiten")

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Projection:
        return projection(images, ids, lambda variances: (variances + self.epsilon).rsqrt(), self.offset, "whiten")
