"""Random stretching: height and width are scaled independently."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import check_between, draw_between
from orchestrator.training.augment.warp import Fill, warped


def stretching(*, factor: float = 1.25, fill: Fill = "zero") -> Augment:
    """Scales height and width of each image by factors of their own from 1 / `factor` to `factor`, log-uniformly.

    Raises:
        ValueError: `factor` is not in [1, 10].
    """
    check_between("factor", factor, 1, 10)
    return _Stretching(factor, fill)


@dataclass(frozen=True)
class _Stretching:
    factor: float
    fill: Fill

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        most = math.log(self.factor)
        inverse_N2 = torch.stack([draw_between(len(images), -most, most, generator).exp() for _ in range(2)], dim=1)
        return warped(images, torch.diag_embed(inverse_N2), torch.zeros(len(images), 2), self.fill)
