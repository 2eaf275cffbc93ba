"""Random crop: the image is padded with zeros and a window of its own size is cut out anywhere.

Paper: He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2, arXiv:1512.03385.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.window import draw_offsets, windows


def crop(*, padding: int = 4) -> Augment:
    """Moves each image by up to `padding` pixels in each direction, uniformly.

    Raises:
        ValueError: `padding` is less than 1.
    """
    if padding < 1:
        raise ValueError(f"padding must be at least 1, got {padding}")
    return _Crop(padding)


@dataclass(frozen=True)
class _Crop:
    padding: int

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        top, left = (draw_offsets(len(images), 2 * self.padding, generator) for _ in range(2))
        return windows(images, self.padding, top, left)
