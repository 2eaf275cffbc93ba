"""One cycle: the learning rate rises from a small one to its highest, and falls to a tiny one.

Source: Smith and Topin 2018, Super-convergence, arXiv:1708.07120; in the form of `torch.optim.lr_scheduler.OneCycleLR` with
cosines, step by step. Our deviation: the momentum stays as it is.
"""

from __future__ import annotations

import math

from orchestrator.training.schedules.base import Schedule, require_final_factor


def one_cycle(
    *,
    epochs: int,
    steps_per_epoch: int,
    rise: float = 0.3,
    initial_factor: float = 0.04,
    final_factor: float = 4e-6,
) -> Schedule:
    """From `initial_factor` to 1 over the share `rise` of the steps, then to `final_factor` at the last one.

    The rise is its warm-up, so it takes no other. In torch's words: pct_start = rise, div_factor = 1 / initial_factor,
    final_div_factor = initial_factor / final_factor.

    Raises:
        ValueError: a setting is outside its range.
    """
    if not 0 < rise < 1:
        raise ValueError(f"rise must be more than 0 and less than 1, got {rise:g}")
    if not 0 < initial_factor <= 1:
        raise ValueError(f"initial_factor must be more than 0 and at most 1, got {initial_factor:g}")
    require_final_factor(final_factor)
    last = epochs * steps_per_epoch - 1
    top = max(0.0, rise * (last + 1) - 1)

    def factor(epoch: float) -> float:
        step = epoch * steps_per_epoch
        if step < top:
            return _between(initial_factor, 1.0, step / top)
        return _between(1.0, final_factor, min(1.0, (step - top) / (last - top)) if last > top else 0.0)

    return factor


def _between(start: float, end: float, done: float) -> float:
    """Along half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
