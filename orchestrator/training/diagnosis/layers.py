"""The layers of a network in the order of computation, and what one forward and backward pass gives of each.

A layer is a module with weights (a convolution, a linear layer) and whatever normalizes or activates its result before the
next layer is computed. Its activations are what the last of these returned: of a plain block the activation, of a layer that
ends a residual branch the activation after the sum, of a classifier its logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from models.initializers.parameters import NORMALIZATIONS, Role, Weight, named_parameters
from models.layers.activation import Maxout
from orchestrator.training.diagnosis.statistics import Summary, dead_units, saturated, summary

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.Softplus, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softsign, Maxout),
)
"""Modules that are activations; one of another class is not seen, and the values before it stand for the layer."""


@dataclass(frozen=True)
class LayerStatistics:
    """A layer after one forward and backward pass.

    Args:
        name: of its module in the network.
        weight: the name of its weight, as in `update_ratios`.
        activation: the class of the activation that gave its activations; "" where none did.
        end: the name of the module that gave them, which is its own where nothing follows.
        features: how many there are, over which `dead` is a share.
        activations: of all examples, features and positions.
        gradients: of the loss with respect to these; None where none came back.
        dead: the share of features that are 0 for every example.
        saturated: the share of activations at a bound; None where the activation has none.
        weight_gradient: of the loss with respect to the weight, whose `std` squared is E38's Var(dW); None where it is not kept.
    """

    name: str
    weight: str
    activation: str
    end: str
    features: int
    activations: Summary
    gradients: Summary | None
    dead: float
    saturated: float | None
    weight_gradient: Summary | None


@contextmanager
def watched(model: nn.Module) -> Iterator[Watch]:
    """Hooks on the layers of a model for one forward and backward pass within the block; `statistics()` of it also later.

    The model is left in the mode in which it is. A layer that is computed several times is seen the first time.
    """
    watch = Watch(layers_of(model))
    handles = [
        module.register_forward_hook(partial(watch.computed, name))
        for name, module in model.named_modules()
        if name in watch.layers or isinstance(module, (*NORMALIZATIONS, *ACTIVATIONS))
    ]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def layers_of(model: nn.Module) -> dict[str, Weight]:
    """By the name of the module, the weight of each convolution and linear layer, in the order of registration."""
    names = {module: name for name, module in model.named_modules()}
    return {
        names[one.module]: one
        for one in named_parameters(model)
        if isinstance(one, Weight) and one.role is Role.WEIGHT and one.rows is None and one.attribute == "weight"
    }


@dataclass
class _Seen:
    """What came out of a layer so far, and of its gradient what is kept."""

    outputs: Tensor
    name: str
    module: nn.Module
    gradients: Summary | None = None
    _handle: RemovableHandle | None = None

    def __post_init__(self) -> None:
        if self.outputs.requires_grad:
            self._handle = self.outputs.register_hook(self._keep)  # type: ignore[no-untyped-call]

    def _keep(self, gradients: Tensor) -> None:
        self.gradients = summary(gradients)

    def forget(self) -> None:
        if self._handle is not None:
            self._handle.remove()


@dataclass
class Watch:
    """What hooks saw; made by `watched`.

    Args:
        layers: the weight of each layer by the module's name.
    """

    layers: dict[str, Weight]
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _newest: str | None = None

    def computed(self, name: str, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """The forward hook of the module `name`."""
        if not isinstance(outputs, Tensor):
            return
        if name in self.layers:
            self._newest = name if name not in self._seen else None
        if self._newest is not None:
            if (before := self._seen.get(self._newest)) is not None:
                before.forget()
            self._seen[self._newest] = _Seen(outputs, name, module)

    def activations(self) -> dict[str, Tensor]:
        """By the name of the layer, what came out of it, in the order of computation."""
        return {name: seen.outputs.detach() for name, seen in self._seen.items()}

    def statistics(self) -> list[LayerStatistics]:
        """The layers in the order of computation; those that the pass did not reach are left out."""
        return [self._of(name, seen) for name, seen in self._seen.items()]

    def release(self) -> None:
        """Lets all activations go; gradients that come back later, as of curvature, are not looked at."""
        for seen in self._seen.values():
            seen.forget()
        self._seen.clear()

    def _of(self, name: str, seen: _Seen) -> LayerStatistics:
        weight, outputs = self.layers[name], seen.outputs
        axis = -1 if isinstance(weight.module, nn.Linear) else 1
        gradient = weight.tensor.grad if weight.tensor.is_leaf else None
        with torch.no_grad():
            return LayerStatistics(
                name=name,
                end=seen.name,
                weight=weight.name,
                activation=type(seen.module).__name__ if isinstance(seen.module, ACTIVATIONS) else "",
                features=outputs.shape[axis],
                activations=summary(outputs),
                gradients=seen.gradients,
                dead=dead_units(outputs, axis),
                saturated=saturated(outputs, seen.module),
                weight_gradient=None if gradient is None else summary(gradient),
            )
