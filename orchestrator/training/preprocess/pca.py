"""PCA: images turned to the axes in which the training images vary, the most varying first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from orchestrator.training.preprocess.affine import finite
from orchestrator.training.preprocess.principal import check_size, projection
from orchestrator.training.preprocess.projection import Projection
from orchestrator.training.preprocess.statistics import Preprocess


def pca(*, offset: float = 0.0) -> Preprocess:
    """(x / 255 - mean) V, with the eigenvectors V of the covariance of the training images: decorrelated, as large as before.

    The result has the shape of the image, and is none: it is for networks that take it as a vector, such as `mlp`.
    Computing V of the 3,072 numbers of CIFAR-10's images takes about 40 s on one core, once in each process.

    Args:
        offset: added to every value; a large one shows why inputs are centred.

    Raises:
        ValueError: when it is called: the images are too large for a matrix.
    """
    return _Pca(finite(offset))


@dataclass(frozen=True)
class _Pca:
    offset: float
    makes_vectors: ClassVar[bool] = True

    def check_size(self, shape: Sequence[int]) -> None:
        check_size(shape, "pca")

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Projection:
        return projection(images, ids, lambda variances: variances.new_ones(variances.shape), self.offset, "pca")
