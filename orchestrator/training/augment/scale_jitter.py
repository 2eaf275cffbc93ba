"""Scale jitter: the image is enlarged by a random factor, and a window of its own size is cut out anywhere.

Paper: He et al. 2015, Deep Residual Learning, section 3.4, arXiv:1512.03385, after Simonyan and Zisserman 2015: the shorter
side becomes 256 to 480 pixels, and the window has 224.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import draw_between
from orchestrator.training.augment.warp import boxes


def scale_jitter(*, smallest: float = 256 / 224, largest: float = 480 / 224) -> Augment:
    """Enlarges each image by `smallest` to `largest`, uniformly, and keeps a window of the image's own size.

    Raises:
        ValueError: not 1 <= smallest <= largest.
    """
    if not (math.isfinite(largest) and 1 <= smallest <= largest):
        raise ValueError(f"it must be 1 <= smallest <= largest, got {smallest:g} and {largest:g}")
    return _ScaleJitter(smallest, largest)


@dataclass(frozen=True)
class _ScaleJitter:
    smallest: float
    largest: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        factor_N = draw_between(count, self.smallest, self.largest, generator)
        high_N, wide_N = (side / factor_N for side in (height, width))
        top_N = draw_between(count, 0, 1, generator) * (height - high_N)
        left_N = draw_between(count, 0, 1, generator) * (width - wide_N)
        return boxes(images, top_N, left_N, high_N, wide_N)
