"""Some or all layers trained, from the output, with smaller learning rates towards the input."""

from __future__ import annotations

from orchestrator.training.transfer.base import Transfer
from orchestrator.training.transfer.layers import Layer


def top_layers(*, layers: int | None = 2, lr_factor: float = 1.0) -> Transfer:
    """The last layers are trained; those before them stay as they are.

    A layer is a module with a weight and what follows it without one, such as its norm, in the order of registration. Whatever
    lies before the first that is trained runs as in evaluation, dropout and stochastic depth included.

    Args:
        layers: so many with weights, counted from the output; null trains half of them, rounded up.
        lr_factor: the learning rate of each stage is that of the next one towards the output times this; a stage is a part of
            the network with weights. 1 is the same for all.

    Source of lr_factor: Howard and Ruder 2018, Universal Language Model Fine-tuning, arXiv:1801.06146, section 3.2 (1 / 2.6).

    Raises:
        ValueError: a value is out of range.
    """
    if layers is not None and layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    _check_factor(lr_factor)

    def count(found: list[Layer]) -> int:
        if layers is not None and layers > len(found):
            raise ValueError(
                f"layers must be at most {len(found)}, as the network has no more with weights (transfer=all trains"
                f" every one), got {layers}"
            )
        return (len(found) + 1) // 2 if layers is None else layers

    return Transfer(count=count, lr_factor=lr_factor)


def whole(*, lr_factor: float = 1.0) -> Transfer:
    """Every layer is trained, each stage with the learning rate of the next one times `lr_factor`, as for `top_layers`.

    Raises:
        ValueError: the factor is out of range.
    """
    _check_factor(lr_factor)
    return Transfer(lr_factor=lr_factor)


def scratch() -> Transfer:
    """Every layer is trained, from its initial weights: what `pretrained` ones are compared with in one search."""
    return Transfer(from_scratch=True)


def _check_factor(lr_factor: float) -> None:
    if not 0 < lr_factor <= 1:
        raise ValueError(f"lr_factor must be more than 0 and at most 1, got {lr_factor:g}")
