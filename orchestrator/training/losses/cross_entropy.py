"""The cross-entropy of the softmax, with label smoothing.

Source: Szegedy et al. 2016, Rethinking the Inception architecture, arXiv:1512.00567, section 7.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from orchestrator.training.losses.base import Loss


def cross_entropy(*, label_smoothing: float = 0.0) -> Loss:
    """Mean over the batch of -log p(label), the target being (1 - s) on the label and s spread evenly over all classes.

    Raises:
        ValueError: label_smoothing is outside [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be at least 0 and less than 1, got {label_smoothing:g}")

    def loss(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
        return F.cross_entropy(logits_NK, labels_N, label_smoothing=label_smoothing)

    return loss
