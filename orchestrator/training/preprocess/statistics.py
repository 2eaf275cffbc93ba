"""What a preprocessing method is, and statistics of the training images, read in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from torch import Tensor

Transform = Callable[[Tensor], Tensor]
"""A batch, uint8 or float, NCHW, on any device -> float32 on the same device, in the same memory format."""

_CHUNK_PIXELS = 200_000
"""Looked at together: small enough for a processor's cache."""


class Preprocess(Protocol):
    """A method with its settings."""

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Transform:
        """The transform fitted on images[ids] (all of them without `ids`); nothing else is looked at."""
        ...


def channel_statistics(images: np.ndarray, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over images[ids] (float64 [C]), in pixel units.

    Read in chunks, so that a memory-mapped data set larger than memory fits; exact for bytes.

    Raises:
        ValueError: no images.
    """
    ids = np.arange(len(images)) if ids is None else ids
    if not len(ids):
        raise ValueError("there are no training images to take statistics from")
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
