"""Half a cosine from 1 down, again and again: each time that it is low, the weights are a snapshot.

Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983 (with cycles of one length); Huang et al. 2017, Snapshot ensembles,
arXiv:1704.00109.
"""

from __future__ import annotations

import math

from orchestrator.training.schedules.base import Schedule
from orchestrator.training.schedules.warmup import after_warmup


def cyclic_cosine(*, epochs: int, steps_per_epoch: int, cycles: int = 5, warmup_epochs: float = 0.0) -> Schedule:
    """After the warm-up `cycles` cosines of equal length, each from 1 down to 0.

    Raises:
        ValueError: cycles is less than 1, or warmup_epochs is outside its range.
    """
    if cycles < 1:
        raise ValueError(f"cycles must be at least 1, got {cycles}")

    def factor(epoch: float) -> float:
        done = epoch * cycles / (epochs - warmup_epochs)
        within = 1.0 if done >= cycles else done % 1
        return (1 + math.cos(math.pi * within)) / 2

    return after_warmup(factor, warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)
