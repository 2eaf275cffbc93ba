"""Random translation by whole pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import check_between
from orchestrator.training.augment.warp import Fill, warped
from orchestrator.training.augment.window import draw_offsets


def translation(*, share: float = 0.125, fill: Fill = "zero") -> Augment:
    """Moves each image by up to `share` of its height and width, in whole pixels, uniformly; by one at least, unless it is 0.

    Raises:
        ValueError: `share` is not in [0, 1].
    """
    check_between("share", share, 0, 1)
    return _Translation(share, fill)


@dataclass(frozen=True)
class _Translation:
    share: float
    fill: Fill

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        sides = [self._most(images.shape[axis]) for axis in (3, 2)]
        shifts = [draw_offsets(len(images), 2 * most, generator) - most for most in sides]
        same = torch.eye(2).expand(len(images), 2, 2)
        return warped(images, same, torch.stack(shifts, dim=1).float(), self.fill)

    def _most(self, side: int) -> int:
        return max(1, int(self.share * side)) if self.share else 0
