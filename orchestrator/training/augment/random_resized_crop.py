"""A box of random area and shape, enlarged to the size of the image.

Paper: Szegedy et al. 2015, Going deeper with convolutions, section 6, arXiv:1409.4842; drawn as torchvision's
`RandomResizedCrop` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import check_between, draw_between
from orchestrator.training.augment.warp import boxes

TRIES = 10


def random_resized_crop(*, smallest: float = 0.08, largest: float = 1.0, ratio: float = 4 / 3) -> Augment:
    """Boxes of `smallest` to `largest` of the area, uniformly, with width / height from 1 / `ratio` to `ratio`, log-uniformly.

    Of ten boxes drawn for an image the first counts that fits; where none does, the largest box of an allowed shape at the
    center.

    Raises:
        ValueError: not 0 < smallest <= largest <= 1, or `ratio` is not in [1, 10].
    """
    if not 0 < smallest <= largest <= 1:
        raise ValueError(f"it must be 0 < smallest <= largest <= 1, got {smallest:g} and {largest:g}")
    check_between("ratio", ratio, 1, 10)
    return _RandomResizedCrop(smallest, largest, ratio)


@dataclass(frozen=True)
class _RandomResizedCrop:
    smallest: float
    largest: float
    ratio: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        area_NT = height * width * _draw(count, self.smallest, self.largest, generator)
        shape_NT = _draw(count, -math.log(self.ratio), math.log(self.ratio), generator).exp()
        wide_NT, high_NT = (area_NT * shape_NT).sqrt().round(), (area_NT / shape_NT).sqrt().round()
        fits_NT = (wide_NT >= 1) & (wide_NT <= width) & (high_NT >= 1) & (high_NT <= height)
        first_N1 = fits_NT.int().argmax(1, keepdim=True)
        any_N = fits_NT.any(1)
        wide_N = torch.where(any_N, wide_NT.gather(1, first_N1)[:, 0], self._widest(width, height))
        high_N = torch.where(any_N, high_NT.gather(1, first_N1)[:, 0], self._widest(height, width))
        top_N = _start(height - high_N, any_N, generator)
        left_N = _start(width - wide_N, any_N, generator)
        return boxes(images, top_N, left_N, high_N, wide_N)

    def _widest(self, side: int, other: int) -> float:
        """One side of the largest box of an allowed shape."""
        return float(min(side, round(other * self.ratio)))


def _draw(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return draw_between(count * TRIES, low, high, generator).view(count, TRIES)


def _start(room_N: Tensor, drawn_N: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform over the whole pixels 0..room; the middle where nothing fits."""
    anywhere_N = (draw_between(len(room_N), 0, 1, generator) * (room_N + 1)).floor().minimum(room_N)
    return torch.where(drawn_N, anywhere_N, (room_N / 2).floor())
