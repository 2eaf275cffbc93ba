"""Half a cosine from 1 down, after a linear warm-up.

Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983 (without restarts); the warm-up is that of Goyal et al. 2017,
arXiv:1706.02677, section 2.2: the learning rate grows by the same amount at every step, from a first value above 0: with
them the rate of one worker, here one such amount. (`torch.optim.lr_scheduler.LinearLR` begins above 0, too, by default at a
third.)
"""

from __future__ import annotations

import math

from orchestrator.training.schedules.base import Schedule


def cosine(*, epochs: int, steps_per_epoch: int, warmup_epochs: float = 0.0, final_factor: float = 0.0) -> Schedule:
    """In a line to 1 over `warmup_epochs`, then along a cosine to `final_factor` at the end of the last epoch.

    Of the n steps of the warm-up the first has factor 1/n and the last 1.

    Raises:
        ValueError: warmup_epochs is negative or leaves no epoch, or final_factor is outside [0, 1].
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"warmup_epochs must be at least 0 and less than epochs={epochs}, got {warmup_epochs:g}")
    if not 0 <= final_factor <= 1:
        raise ValueError(f"final_factor must be at least 0 and at most 1, got {final_factor:g}")

    def factor(epoch: float) -> float:
        if epoch < warmup_epochs:
            return min(1.0, (epoch + 1 / steps_per_epoch) / warmup_epochs)
        done = min(1.0, (epoch - warmup_epochs) / (epochs - warmup_epochs))
        return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * done)) / 2

    return factor
