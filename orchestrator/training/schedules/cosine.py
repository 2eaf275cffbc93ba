"""Half a cosine from 1 down.

Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983 (without restarts).
"""

from __future__ import annotations

import math

from orchestrator.training.schedules.base import Schedule, require_final_factor
from orchestrator.training.schedules.warmup import after_warmup


def cosine(*, epochs: int, steps_per_epoch: int, warmup_epochs: float = 0.0, final_factor: float = 0.0) -> Schedule:
    """After the warm-up along a cosine to `final_factor` at the end of the last epoch.

    Raises:
        ValueError: warmup_epochs or final_factor is outside its range.
    """
    require_final_factor(final_factor)

    def factor(epoch: float) -> float:
        done = min(1.0, epoch / (epochs - warmup_epochs))
        return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * done)) / 2

    return after_warmup(factor, warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)
