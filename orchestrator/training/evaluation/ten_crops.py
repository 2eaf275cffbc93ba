"""Ten crops: the four corners and the center of an image, and the same of its mirror image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.training.evaluation.base import Evaluation
from orchestrator.training.evaluation.views import View, Views, ten


def ten_crops(*, size: float = 224 / 256) -> Evaluation:
    """The windows of torchvision's `ten_crop`, each enlarged to the size of the images, which is what the network takes.

    As in torchvision nothing is padded, and a window larger than the image is refused. Windows that coincide count once: with
    `size=1` two are left.

    Args:
        size: of the windows: up to 1 a share of the image's sides, above pixels of its shorter side.

    Raises:
        ValueError: `size` is not above 0, or neither a share nor whole. (When images are there) they are smaller.

    Source: Krizhevsky et al. 2012, section 4.1: 224 of 256 pixels.
    """
    if not (math.isfinite(size) and size > 0) or (size > 1 and size != int(size)):
        raise ValueError(f"size must be a share above 0 and at most 1, or whole pixels, got {size:g}")
    return _TenCrops(size)


@dataclass(frozen=True)
class _TenCrops(Views):
    size: float

    def listed(self, height: int, width: int) -> list[View]:
        if self.size > min(height, width) and self.size > 1:
            raise ValueError(f"size={self.size:g} is larger than the images, got {height}x{width}")
        share = self.size if self.size <= 1 else self.size / min(height, width)
        high, wide = (max(1, round(share * side)) for side in (height, width))
        return ten(height, width, high, wide)
