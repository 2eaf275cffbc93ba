"""Random horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.window import draw_flags, mirror


def flip(*, probability: float = 0.5) -> Augment:
    """Mirrors each image left to right with `probability`.

    Raises:
        ValueError: `probability` is not in [0, 1].
    """
    check_probability(probability)
    return _Flip(probability)


def check_probability(probability: float) -> None:
    """Raises ValueError unless `probability` is in [0, 1]."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be from 0 to 1, got {probability}")


@dataclass(frozen=True)
class _Flip:
    probability: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return mirror(images, draw_flags(len(images), self.probability, generator))
