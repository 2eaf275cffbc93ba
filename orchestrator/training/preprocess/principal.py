"""The principal axes of the training images, and the transform to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from orchestrator.training.preprocess.affine import unit_of
from orchestrator.training.preprocess.projection import MOST_DIMENSIONS, Projection
from orchestrator.training.preprocess.statistics import covariance

# D numbers of an image: channels x height x width


def projection(
    images: np.ndarray,
    ids: np.ndarray | None,
    factors: Callable[[Tensor], Tensor],
    offset: float,
    name: str,
) -> Projection:
    """To the eigenvectors of the covariance of images[ids], the largest eigenvalue first.

    Args:
        factors: of the axes, from the variances on them, of pixels in [0, 1].
        name: of the method, for its message.

    Raises:
        ValueError: the images are too large for a matrix.
    """
    check_size(images.shape[1:], name)
    unit = unit_of(images.dtype)
    mean_D, covariance_DD = covariance(images, ids)
    # torch computes on as many threads as the trial has, so that the same trial gets the same bits again
    variances_D, vectors_DD = torch.linalg.eigh(torch.from_numpy(covariance_DD * unit**2))
    variances_D, vectors_DD = variances_D.flip(0).clamp_min(0), vectors_DD.flip(1)
    largest = vectors_DD.gather(0, vectors_DD.abs().argmax(0, keepdim=True))  # an eigenvector has either sign
    matrix_DD = unit * vectors_DD * largest.sign() * factors(variances_D)
    return Projection(
        torch.from_numpy(mean_D).float(), matrix_DD.float().contiguous(), torch.tensor([offset], dtype=torch.float32)
    )


def check_size(shape: Sequence[int], name: str) -> None:
    """Refuses images [C, H, W] that are too large for a matrix.

    Raises:
        ValueError: they are.
    """
    dimensions = math.prod(shape)
    if dimensions > MOST_DIMENSIONS:
        raise ValueError(
            f"{name} keeps a matrix of {dimensions:,} x {dimensions:,} numbers for images of {'x'.join(map(str, shape))}; it"
            f" takes images of at most {MOST_DIMENSIONS:,} numbers: choose preprocess=channel_mean, as is usual for images, or"
            " smaller ones"
        )
