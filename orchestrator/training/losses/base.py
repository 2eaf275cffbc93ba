"""What a loss is to the engine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from models.outputs import Outputs, main_output

# N examples, K classes


class Batch(NamedTuple):
    """One batch of training examples, on the device unless said otherwise.

    Args:
        images: float32 [N, C, H, W], as the model is given them.
        labels: class ids, int64 [N], or a distribution over the classes for each example, float32 [N, K] (soft labels).
        indices: the place of each example in the training split, int64 [N], on the CPU.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class Loss(Protocol):
    """From what the model returns for a batch to the mean loss over the batch, a scalar.

    `outputs` is a tensor of logits [N, K] or `models.outputs.Outputs`, and `labels` are those of `batch`. A loss that takes two
    arguments, such as `torch.nn.CrossEntropyLoss`, is given the main logits and the labels.
    """

    def __call__(self, outputs: Tensor | Outputs, labels: Tensor, batch: Batch) -> Tensor: ...


def of_logits(mean: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss that `mean` gives of logits and labels; auxiliary outputs add theirs, times their weight."""

    def loss(outputs: Tensor | Outputs, labels: Tensor, batch: Batch | None = None) -> Tensor:
        if not isinstance(outputs, Outputs):
            return mean(outputs, labels)
        total = mean(outputs.main, labels)
        for logits in outputs.auxiliary:
            total = total + outputs.auxiliary_weight * mean(logits, labels)
        return total

    return loss


def as_loss(loss: Callable[..., Any]) -> Loss:
    """`loss` itself, or around a loss of two arguments one that takes three."""
    function = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return lambda outputs, labels, batch: loss(main_output(outputs), labels)
    except ValueError:  # a builtin without a signature
        pass
    return loss
