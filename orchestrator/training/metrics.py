"""The metrics of predictions: one function and one entry each.

To add one, write its function and its entry in `EVALUATED`: it is then logged for validation and test. With a line in
`base.records.METRICS`, which says whether more or less of it is better, it may be `metric=`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# N examples, K classes


def negative_log_likelihood(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Mean of -log p(label) under the softmax of the logits, in nats, at least 0: the plain cross-entropy."""
    return float(F.cross_entropy(logits_NK, labels_N, reduction="none").double().mean().item())


def accuracy(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Share of rows whose (first) largest logit is at the label, in [0, 1]."""
    return int((logits_NK.argmax(1) == labels_N).sum().item()) / len(labels_N)


def top5_accuracy(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Share of rows whose label is among the five largest logits, in [0, 1]; 1 where there are at most five classes.

    Of equal logits the first one counts as the larger, as for the accuracy.
    """
    classes = logits_NK.shape[1]
    if classes <= 5:
        return 1.0
    labels_N1 = labels_N[:, None]
    own_N1 = logits_NK.gather(1, labels_N1)
    earlier_NK = torch.arange(classes, device=logits_NK.device) < labels_N1
    ahead_N = ((logits_NK > own_N1) | (earlier_NK & (logits_NK == own_N1))).sum(1)
    return int((ahead_N < 5).sum().item()) / len(labels_N)


EVALUATED: dict[str, Callable[[Tensor, Tensor], float]] = {
    "loss": negative_log_likelihood,
    "accuracy": accuracy,
    "top5_accuracy": top5_accuracy,
    "nll": negative_log_likelihood,
}
"""What is computed of the validation and test splits, from logits (float32 [N, K]) and class ids (int64 [N]): `val/loss`, ...

The loss of an evaluation is always the negative log-likelihood, whatever the training loss, so that trials compare. `nll` is
the same number under its standard name.
"""


def evaluated(split: str, logits_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    """All metrics of a split, under `<split>/<name>`; a function that stands behind two names is called once."""
    values: dict[Callable[[Tensor, Tensor], float], float] = {}
    for compute in EVALUATED.values():
        if compute not in values:
            values[compute] = compute(logits_NK, labels_N)
    return {f"{split}/{name}": values[compute] for name, compute in EVALUATED.items()}
