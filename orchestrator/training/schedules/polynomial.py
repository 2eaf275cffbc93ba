"""The learning rate falls as a power of the time that is left.

Source: Chen et al. 2017, DeepLab, arXiv:1606.00915, section 4.1.1, "poly"; power 1 is a straight line.
"""

from __future__ import annotations

from orchestrator.training.schedules.base import Schedule, require_final_factor
from orchestrator.training.schedules.warmup import after_warmup


def polynomial(
    *, epochs: int, steps_per_epoch: int, power: float = 1.0, final_factor: float = 0.0, warmup_epochs: float = 0.0
) -> Schedule:
    """After the warm-up (1 - t)^power, where t goes from 0 to 1 at the end of the last epoch, on the way to `final_factor`.

    Raises:
        ValueError: power is not positive, or final_factor or warmup_epochs is outside its range.
    """
    if power <= 0:
        raise ValueError(f"power must be more than 0, got {power:g}")
    require_final_factor(final_factor)

    def factor(epoch: float) -> float:
        left = max(0.0, 1 - epoch / (epochs - warmup_epochs))
        return float(final_factor + (1 - final_factor) * left**power)

    return after_warmup(factor, warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)
