"""What a preprocessing method is, and statistics of the training images, read in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Transform = Callable[[Tensor], Tensor]
"""A batch, uint8 or float, NCHW, on any device -> float32 on the same device, in the same memory format."""

_CHUNK_PIXELS = 200_000
"""Looked at together: small enough for a processor's cache."""

_CHUNK_NUMBERS = 4_000_000
"""Looked at together where matrices are computed: 32 MB."""


class Preprocess(Protocol):
    """A method with its settings.

    One that not all images can have says so in a method `check_size(shape)`, told [C, H, W], which raises ValueError: it is asked
    before anything is started.
    """

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Transform:
        """The transform fitted on images[ids] (all of them without `ids`); nothing else is looked at."""
        ...


def channel_statistics(images: np.ndarray, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over images[ids] (float64 [C]), in pixel units.

    Read in chunks, so that a memory-mapped data set larger than memory fits; exact for bytes.

    Raises:
        ValueError: no images.
    """
    ids = _training(images, ids)
    channels, pixels = images.shape[1], images.shape[2] * images.shape[3]
    total, squares = np.zeros(channels), np.zeros(channels)
    # counted from the first image's mean, floats far from 0 keep their digits; sums of bytes are exact as they are
    origin = np.zeros(channels) if images.dtype == np.uint8 else images[ids[0]].mean(axis=(1, 2), dtype=np.float64)
    step = max(1, _CHUNK_PIXELS // (channels * pixels))
    for start in range(0, len(ids), step):
        chunk_NCP = images[ids[start : start + step]].astype(np.float64).reshape(-1, channels, pixels)
        chunk_NCP -= origin[:, None]
        total += chunk_NCP.sum(axis=(0, 2))
        squares += np.einsum("ncp,ncp->c", chunk_NCP, chunk_NCP)
    mean = total / (len(ids) * pixels)
    return origin + mean, np.sqrt(np.maximum(squares / (len(ids) * pixels) - np.square(mean), 0.0))


def pixel_statistics(images: np.ndarray, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each pixel of each channel over images[ids] (float64 [C, H, W]), in pixel units.

    Raises:
        ValueError: no images.
    """
    ids = _training(images, ids)
    origin = images[ids[0]].astype(np.float64)  # counted from it, a pixel that is constant has exactly no deviation
    total, squares = np.zeros(origin.shape), np.zeros(origin.shape)
    for chunk in _chunks(images, ids):
        chunk -= origin
        total += chunk.sum(axis=0)
        squares += np.einsum("nchw,nchw->chw", chunk, chunk)
    mean = total / len(ids)
    return origin + mean, np.sqrt(np.maximum(squares / len(ids) - np.square(mean), 0.0))


def covariance(images: np.ndarray, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D] of images[ids] as vectors of D = C x H x W numbers, in float64 and pixel units.

    The mean of the products, divided by their number, not by one less.

    Raises:
        ValueError: no images.
    """
    ids = _training(images, ids)
    mean_D = pixel_statistics(images, ids)[0].ravel()
    found_DD = torch.zeros(len(mean_D), len(mean_D), dtype=torch.float64)
    for chunk in _chunks(images, ids):
        chunk_ND = torch.from_numpy(chunk.reshape(len(chunk), -1) - mean_D)
        found_DD.addmm_(chunk_ND.T, chunk_ND)
    return mean_D, (found_DD / len(ids)).numpy()


def _training(images: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
    ids = np.arange(len(images)) if ids is None else ids
    if not len(ids):
        raise ValueError("there are no training images to take statistics from")
    return ids


def _chunks(images: np.ndarray, ids: np.ndarray) -> Iterator[np.ndarray]:
    """The images in float64, as many at a time as are few."""
    step = max(1, _CHUNK_NUMBERS // int(np.prod(images.shape[1:])))
    for start in range(0, len(ids), step):
        yield images[ids[start : start + step]].astype(np.float64)
