"""The metrics of a trial: one entry a metric, with the direction in which it is better.

To add one, write its function and its entry in `EVALUATED`: it is then logged for validation and test, and may be `metric=`.
torch is imported within the functions, since the driver reads the names alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# N examples, K classes


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Args:
        mode: whether less or more of it is better.
        of: its value from logits (float32 [N, K]) and class ids (int64 [N]).
    """

    mode: Literal["min", "max"]
    of: Callable[[Tensor, Tensor], float]


def negative_log_likelihood(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Mean of -log p(label) under the softmax of the logits, in nats, at least 0: the plain cross-entropy."""
    from torch.nn.functional import cross_entropy

    return float(cross_entropy(logits_NK, labels_N, reduction="none").double().mean().item())


def accuracy(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Share of rows whose (first) largest logit is at the label, in [0, 1]."""
    return int((logits_NK.argmax(1) == labels_N).sum().item()) / len(labels_N)


def top5_accuracy(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Share of rows whose label is among the five largest logits, in [0, 1]; 1 where there are at most five classes.

    Of equal logits the first one counts as the larger, as for the accuracy.
    """
    import torch

    classes = logits_NK.shape[1]
    if classes <= 5:
        return 1.0
    labels_N1 = labels_N[:, None]
    own_N1 = logits_NK.gather(1, labels_N1)
    earlier_NK = torch.arange(classes, device=logits_NK.device) < labels_N1
    ahead_N = ((logits_NK > own_N1) | (earlier_NK & (logits_NK == own_N1))).sum(1)
    return int((ahead_N < 5).sum().item()) / len(labels_N)


EVALUATED: dict[str, Metric] = {
    "loss": Metric("min", negative_log_likelihood),
    "accuracy": Metric("max", accuracy),
    "top5_accuracy": Metric("max", top5_accuracy),
    "nll": Metric("min", negative_log_likelihood),
}
"""What is computed of the validation and test splits: `val/loss`, `test/loss`, ...

The loss of an evaluation is always the negative log-likelihood, whatever the training loss, so that trials compare. `nll` is
the same number under its standard name.
"""

TRAINED = ("loss", "accuracy")
"""What is gathered of the training split during the epoch: `train/loss` is of the loss in use, without the penalty."""

METRICS: dict[str, Literal["min", "max"]] = {
    **{f"train/{name}": EVALUATED[name].mode for name in TRAINED},
    **{f"val/{name}": metric.mode for name, metric in EVALUATED.items()},
}
"""Metrics that can be the objective, with the mode in which they are better. The test's are not among them."""


def evaluated(split: str, logits_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    """All metrics of a split, under `<split>/<name>`; a function that stands behind two names is called once."""
    values: dict[Callable[[Tensor, Tensor], float], float] = {}
    for metric in EVALUATED.values():
        if metric.of not in values:
            values[metric.of] = metric.of(logits_NK, labels_N)
    return {f"{split}/{name}": values[metric.of] for name, metric in EVALUATED.items()}
