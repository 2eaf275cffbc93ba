"""Cutout: a square of each image becomes black.

Paper: DeVries and Taylor 2017, Improved regularization of convolutional neural networks with cutout, arXiv:1708.04552: 16
pixels of 32 on CIFAR-10, 8 on CIFAR-100. The square may reach beyond the border.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import like
from orchestrator.training.augment.window import draw_offsets


def cutout(*, size: float = 0.5) -> Augment:
    """Blackens a square of `size` of the shorter side, its center anywhere in the image.

    Raises:
        ValueError: `size` is not in (0, 1].
    """
    if not 0 < size <= 1:
        raise ValueError(f"size must be more than 0 and at most 1, a share of the shorter side; got {size:g}")
    return _Cutout(size)


@dataclass(frozen=True)
class _Cutout:
    size: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        side = max(1, round(self.size * min(height, width)))
        rows_NH, columns_NW = (
            _within(draw_offsets(count, length - 1, generator), side, length).to(images.device)
            for length in (height, width)
        )
        inside = (rows_NH[:, :, None] & columns_NW[:, None, :])[:, None]
        return like(images, images.masked_fill(inside, 0))


def _within(center_N: Tensor, side: int, length: int) -> Tensor:
    """Which of `length` places lie in the intervals of `side` around these centers; bool [N, length]."""
    start_N1 = (center_N - side // 2)[:, None]
    places = torch.arange(length, device=center_N.device)
    return (places >= start_N1) & (places < start_N1 + side)
