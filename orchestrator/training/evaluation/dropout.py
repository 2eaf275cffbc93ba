"""Dropout layers at test time: what they do instead of passing on what they get.

torch's dropout is inverted: in training it divides what it keeps by the keep probability, so that test scales nothing.
Everything else of the network, its norms and the units that it may leave out, stays as in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

SCALING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""Layers that set to zero and scale; those of `AlphaDropout` do something else."""

Rule = Callable[[_DropoutNd, Tensor, int], Tensor]
"""From a layer, what it got, and the number of the call in this pass, to what it returns."""


def dropout_layers(model: nn.Module) -> list[_DropoutNd]:
    """Those that drop anything."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0]


def check_dropout(model: nn.Module) -> None:
    """
    Raises:
        ValueError: the network has no dropout layers, or some whose rule is another one.
    """
    layers = dropout_layers(model)
    if not layers:
        raise ValueError(
            "needs a network with dropout, and this one has none; model.dropout=0.5 gives it some, where the model takes that"
        )
    others = sorted({type(layer).__name__ for layer in layers if not isinstance(layer, SCALING)})
    if others:
        raise ValueError(f"knows layers that keep a value or set it to zero, and this network has {', '.join(others)}")


@contextmanager
def instead(model: nn.Module, rule: Rule) -> Iterator[None]:
    """Within the block the dropout layers of a model in evaluation mode return what the rule says; for one pass."""
    calls = 0

    def hook(layer: nn.Module, given: object, passed_on: Tensor) -> Tensor:
        nonlocal calls
        assert isinstance(layer, _DropoutNd)
        calls += 1
        return rule(layer, passed_on, calls - 1)

    handles = [layer.register_forward_hook(hook) for layer in dropout_layers(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
