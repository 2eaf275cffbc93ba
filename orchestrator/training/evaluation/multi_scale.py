"""Multi-scale crops: the image is enlarged to several sizes, of each of which ten windows are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.training.evaluation.base import Evaluation
from orchestrator.training.evaluation.views import View, Views, ten

SCALES = tuple(side / 224 for side in (224, 256, 384, 480, 640))
MOST = 100


def multi_scale(*, scales: Sequence[float] = SCALES) -> Evaluation:
    """Five scales, each with four corners and the center, as they are and mirrored: 50 views of the size that the network takes.

    Windows that coincide count once. At scale 1 all five are the whole image, so that 42 views of the 50 are left; on small
    images, such as 8x8 digits, neighbouring windows coincide at other scales, too.

    Args:
        scales: of the image's sides, relative to the size that the network takes; rounded to whole pixels.

    Raises:
        ValueError: none is given, or more than 100, or one is below 1, or above 16.

    Source: the scales of He et al. 2015, Deep Residual Learning, section 3.4, arXiv:1512.03385; the windows of Krizhevsky et al.
    2012, section 4.1.
    """
    if not 1 <= len(scales) <= MOST or not all(math.isfinite(scale) and 1 <= scale <= 16 for scale in scales):
        raise ValueError(f"scales must be 1 to {MOST} numbers from 1 to 16, got {str([*scales])[:100]}")
    return _MultiScale(tuple(scales))


@dataclass(frozen=True)
class _MultiScale(Views):
    scales: tuple[float, ...]

    def listed(self, height: int, width: int) -> list[View]:
        sizes = [(round(scale * height), round(scale * width)) for scale in self.scales]
        return [view for high, wide in sizes for view in ten(high, wide, height, width)]
