"""The cross-entropy of the softmax, with label smoothing.

Source: Szegedy et al. 2016, Rethinking the Inception architecture, arXiv:1512.00567, section 7.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from orchestrator.training.losses.base import Loss, of_logits


def cross_entropy(*, label_smoothing: float = 0.0) -> Loss:
    """Mean over the batch of -sum_k t_k log p_k; auxiliary outputs add theirs, times their weight.

    The target t is 1 at the label, or the soft label; smoothing by s makes it (1 - s) t + s / K over K classes.

    Raises:
        ValueError: label_smoothing is outside [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be at least 0 and less than 1, got {label_smoothing:g}")

    def mean(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    return of_logits(mean)
