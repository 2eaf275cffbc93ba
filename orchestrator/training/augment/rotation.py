"""Random rotation about the center."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import check_between, draw_between
from orchestrator.training.augment.warp import Fill, warped


def rotation(*, degrees: float = 15.0, fill: Fill = "zero") -> Augment:
    """Turns each image by up to `degrees` in both directions, uniformly.

    Raises:
        ValueError: `degrees` is not in [0, 180].
    """
    check_between("degrees", degrees, 0, 180)
    return _Rotation(degrees, fill)


@dataclass(frozen=True)
class _Rotation:
    degrees: float
    fill: Fill

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        angle_N = draw_between(len(images), -math.radians(self.degrees), math.radians(self.degrees), generator)
        cos_N, sin_N = angle_N.cos(), angle_N.sin()
        matrix_N22 = torch.stack([cos_N, -sin_N, sin_N, cos_N], dim=1).view(-1, 2, 2)
        return warped(images, matrix_N22, torch.zeros(len(images), 2), self.fill)
