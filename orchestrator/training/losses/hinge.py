"""The multi-class hinge loss of support vector machines, summed over the classes.

Source: Weston and Watkins 1999, Support vector machines for multi-class pattern recognition. Ours and not
`torch.nn.functional.multi_margin_loss`, which divides by the number of classes, knows no soft labels and cannot be
differentiated twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orchestrator.training.losses.base import Loss, of_logits


def hinge(*, margin: float = 1.0) -> Loss:
    """Mean over the batch of sum_{j != y} max(0, f_j - f_y + margin); with soft labels its mean over the classes y.

    Auxiliary outputs add theirs, times their weight. Scores of 0 have the loss (K - 1) margin.

    Raises:
        ValueError: margin is not positive.
    """
    if margin <= 0:
        raise ValueError(f"margin must be more than 0, got {margin:g}")

    def of_class(scores: Tensor, classes: Tensor) -> Tensor:
        """The loss of each example, class ids [N, 1]; the right class itself adds the margin, which is taken off."""
        return (scores - scores.gather(1, classes) + margin).clamp(min=0).sum(1) - margin

    def mean(scores: Tensor, labels: Tensor) -> Tensor:
        if labels.ndim == 1:
            return of_class(scores, labels[:, None]).mean()
        # of each soft label only the classes that it names: two after mixup
        shares, classes = labels.topk(int((labels > 0).sum(1).max()))
        losses = [of_class(scores, classes[:, place, None]) for place in range(classes.shape[1])]
        return (shares * torch.stack(losses, 1)).sum(1).mean()

    return of_logits(mean)
