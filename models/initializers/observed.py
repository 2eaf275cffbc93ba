"""The layers of a network one after the other as a mini-batch reaches them, for schemes that look at data.

A layer is seen with the inputs that the layers before it give once they are initialized, in one forward pass of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.initializers.parameters import NORMALIZATIONS, NamedParameter, Role, Weight, named_parameters
from models.network import Network


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer and what reached it.

    Args:
        bias: None where it has none.
        inputs: (N, ...), the whole mini-batch.
        outputs: computes what the layer gives for `inputs` with the values that it has then, (N, ...).
    """

    weight: Weight
    bias: NamedParameter | None
    inputs: Tensor
    outputs: Callable[[], Tensor]

    @property
    def values(self) -> Tensor:
        """The weight as it is now."""
        values: Tensor = getattr(self.weight.module, self.weight.attribute)
        return values

    @property
    def feature_axis(self) -> int:
        """Of the outputs: 1 of maps and vectors, the last of what a linear layer makes of tokens."""
        return -1 if isinstance(self.weight.module, nn.Linear) else 1


def visit(model: nn.Module, images: Tensor | None, initialize: Callable[[Layer], None], *, name: str) -> None:
    """Calls `initialize` for each layer in the order of computation, which may change the layer's weight and bias.

    Layers that the images do not reach, and projections that are no module of their own, are not visited.

    Args:
        name: of the initialization, for its message.

    Raises:
        ValueError: there are no images.
    """
    images = needed(images, name)
    with as_in_training(model), ExitStack() as hooks:
        for weight, bias in layers_of(model):
            handle = weight.module.register_forward_hook(_Hook(weight, bias, initialize))
            hooks.callback(handle.remove)
        model(images)


def needed(images: Tensor | None, name: str) -> Tensor:
    """The images, which there have to be."""
    if images is None:
        raise ValueError(f"{name} looks at images; give a mini-batch: initialize(model, scheme, generator, images)")
    return images


def layers_of(model: nn.Module) -> list[tuple[Weight, NamedParameter | None]]:
    """Each convolution and linear layer: its weight and, where it has one, its bias."""
    found: list[tuple[Weight, NamedParameter | None]] = []
    biases = {id(one.module): one for one in named_parameters(model) if one.role is Role.BIAS}
    for one in named_parameters(model):
        if isinstance(one, Weight) and one.rows is None and one.attribute == "weight":
            found.append((one, biases.get(id(one.module))))
    return found


@contextmanager
def as_in_training(model: nn.Module) -> Iterator[None]:
    """Within it normalizations use the mini-batch's statistics and auxiliary heads are computed, but nothing is dropped.

    What the network keeps of the mini-batch, such as running statistics, is as before at the end.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    for module in modes:
        module.training = isinstance(module, (Network, *NORMALIZATIONS))
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers.items():
                buffer.copy_(before)


class _Hook:
    """Initializes a layer when it is first computed, and gives what it computes then."""

    def __init__(self, weight: Weight, bias: NamedParameter | None, initialize: Callable[[Layer], None]) -> None:
        self._weight, self._bias, self._initialize = weight, bias, initialize
        self._done = False

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if self._done:
            return output
        self._done = True
        outputs = partial(module.forward, *inputs)
        self._initialize(Layer(self._weight, self._bias, inputs[0], outputs))
        changed: Tensor = outputs()
        return changed
