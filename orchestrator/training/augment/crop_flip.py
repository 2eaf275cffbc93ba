"""Random crop and horizontal flip together, in one pass: the usual augmentation of CIFAR.

Paper: He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2, arXiv:1512.03385.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.flip import check_probability
from orchestrator.training.augment.window import draw_flags, draw_offsets, windows


def crop_flip(*, padding: int = 4, probability: float = 0.5) -> Augment:
    """Moves each image by up to `padding` pixels in each direction and mirrors it with `probability`.

    Raises:
        ValueError: `padding` is less than 1 or `probability` not in [0, 1].
    """
    if padding < 1:
        raise ValueError(f"padding must be at least 1, got {padding}")
    check_probability(probability)
    return _CropFlip(padding, probability)


@dataclass(frozen=True)
class _CropFlip:
    padding: int
    probability: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        top, left = (draw_offsets(len(images), 2 * self.padding, generator) for _ in range(2))
        return windows(images, self.padding, top, left, draw_flags(len(images), self.probability, generator))
