"""Augmentation: batched tensor operations that treat every image of a batch differently; one method a file.

A target in `conf/augment` returns a callable `(images, generator) -> images` on NCHW tensors of any dtype; shape, dtype,
device and memory format stay. Random numbers are drawn on the generator's device, so that a CPU generator gives a GPU the
same augmentation. What has no pixel of the image is 0, black, unless a method has a choice of `fill`. Bytes are rounded and
kept from 0 to 255; floating-point images have no bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]


@runtime_checkable
class Fitted(Protocol):
    """An augmentation that depends on the training images."""

    def fitted(self, images: np.ndarray, ids: np.ndarray) -> Augment:
        """The same for the images[ids], uint8 or float [N, C, H, W]; nothing else is looked at."""
        ...


@runtime_checkable
class Mixing(Protocol):
    """An augmentation that changes labels, too: it mixes the images of a batch after preprocessing."""

    def mix(self, images: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images, float32 [N, C, H, W], and soft labels, float32 [N, classes], from such images and class ids [N]."""
        ...


def fitted(augment: Augment | None, images: np.ndarray, ids: np.ndarray) -> Augment | None:
    """The augmentation for these training images."""
    return augment.fitted(images, ids) if isinstance(augment, Fitted) else augment
