"""No preprocessing: pixels as they are stored, bytes from 0 to 255."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.training.preprocess.affine import Affine, affine, finite
from orchestrator.training.preprocess.statistics import Preprocess


def none(*, offset: float = 0.0) -> Preprocess:
    """x, in float32: of bytes a number from 0 to 255. `unit` is what brings them to [0, 1].

    Args:
        offset: added to every value; a large one shows why inputs are centred.
    """
    return _None(finite(offset))


@dataclass(frozen=True)
class _None:
    offset: float

    def __call__(self, images: np.ndarray, ids: np.ndarray | None = None) -> Affine:
        del ids
        channels = images.shape[1]
        return affine(np.ones(channels), np.zeros(channels), self.offset)
