"""Random horizontal shearing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import check_between, draw_between
from orchestrator.training.augment.warp import Fill, warped


def shearing(*, degrees: float = 10.0, fill: Fill = "zero") -> Augment:
    """Tilts the vertical of each image by up to `degrees` in both directions, uniformly; rows stay rows.

    Raises:
        ValueError: `degrees` is not in [0, 80].
    """
    check_between("degrees", degrees, 0, 80)
    return _Shearing(degrees, fill)


@dataclass(frozen=True)
class _Shearing:
    degrees: float
    fill: Fill

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        most = math.radians(self.degrees)
        slope_N = draw_between(len(images), -most, most, generator).tan()
        matrix_N22 = torch.eye(2, device=slope_N.device).repeat(len(images), 1, 1)
        matrix_N22[:, 0, 1] = slope_N
        return warped(images, matrix_N22, torch.zeros(len(images), 2), self.fill)
