"""Lighting: every pixel of an image is moved along the principal components of the training pixels.

Paper: Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks, section 4.1. It multiplies the
components by eigenvalues, which depend on the unit of pixels; as in the implementations, they are multiplied by standard
deviations here, the roots of the eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import as_floats, check_between, like

PIXELS = 2**23
"""Of the training images, evenly spaced, that are looked at."""


def pca_lighting(*, std: float = 0.1) -> Augment:
    """Adds to all pixels of an image sum_i a_i s_i p_i: p_i is the i-th principal component of the training pixels, s_i their
    standard deviation along it, and a_i is normal with standard deviation `std`, one for each image.

    Raises:
        ValueError: `std` is not in [0, 10].
    """
    check_between("std", std, 0, 10)
    return _PcaLighting(std)


@dataclass(frozen=True)
class _PcaLighting:
    """
    Args:
        steps_CC: a row for each component, its direction times its standard deviation; None before it is fitted.
    """

    std: float
    steps_CC: Tensor | None = None

    def fitted(self, images: np.ndarray, ids: np.ndarray) -> _PcaLighting:
        return replace(self, steps_CC=torch.from_numpy(steps(images, ids)).float())

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.steps_CC is None:
            raise ValueError("pca_lighting has not seen the training images: take `fitted`")
        size = (len(images), len(self.steps_CC))
        draws_NC = self.std * torch.randn(size, generator=generator, device=generator.device)
        moved_NC = (draws_NC.cpu() @ self.steps_CC).to(images.device)
        return like(images, as_floats(images) + moved_NC[:, :, None, None])


def steps(images: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Principal components of the pixels of images[ids], each times its standard deviation: float64 [C, C], a row each.

    A component points to where most of its channels grow.
    """
    channels, pixels = images.shape[1], images.shape[2] * images.shape[3]
    count = min(len(ids), max(256, PIXELS // pixels))
    seen = ids[np.linspace(0, len(ids) - 1, count).astype(np.int64)]
    total, products = np.zeros(channels), np.zeros((channels, channels))
    origin = images[seen[0]].mean(axis=(1, 2), dtype=np.float64)
    for start in range(0, count, 256):
        chunk_NCP = images[seen[start : start + 256]].reshape(-1, channels, pixels) - origin[:, None]
        total += chunk_NCP.sum(axis=(0, 2))
        products += np.einsum("ncp,ndp->cd", chunk_NCP, chunk_NCP, optimize=True)
    mean = total / (count * pixels)
    variances, directions = np.linalg.eigh(products / (count * pixels) - np.outer(mean, mean))
    directions = directions * np.where(directions.sum(axis=0) < 0, -1, 1)
    found: np.ndarray = (directions * np.sqrt(np.maximum(variances, 0))).T
    return found
