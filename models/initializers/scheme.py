"""What a scheme is, and how to write one that treats each convolution and linear layer by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Scheme = Callable[[nn.Module, torch.Generator, Tensor | None], None]
"""(model, generator, images) -> None: initializes the whole model in place, called without gradients.

It gets the whole model, so that it may look at its residual branches (`models.layers.residual.residual_branches`), and
a mini-batch of images where the caller has one.
"""

Affine = nn.Conv2d | nn.Linear


def affine_layers(model: nn.Module) -> Iterator[Affine]:
    """All convolutions and linear layers, in the order in which they were registered."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield module


def fans(layer: Affine) -> tuple[int, int]:
    """(fan-in, fan-out): the inputs of one output, and the outputs of one input (of its group), over the kernel."""
    num_out, num_in = layer.weight.shape[:2]
    kernel = layer.weight[0, 0].numel()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return num_in * kernel, num_out // groups * kernel


def by_layer(draw: Callable[[Affine, torch.Generator], Tensor]) -> Scheme:
    """A scheme that draws each weight by itself and sets biases to 0; normalization layers are left as they are."""

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        for layer in affine_layers(model):
            weight = draw(layer, generator).to(layer.weight)
            if parametrize.is_parametrized(layer, "weight"):  # weight normalization computes it: it cannot be filled
                layer.weight = weight
            else:
                layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.zero_()

    return scheme


def normal(std: Callable[[int, int], float]) -> Scheme:
    """Independent normal weights of mean 0, with a standard deviation computed from (fan-in, fan-out)."""

    def draw(layer: Affine, generator: torch.Generator) -> Tensor:
        # Drawn where the generator is, so that a seed gives the same weights on every device.
        weight = torch.empty(layer.weight.shape, device=generator.device)
        return weight.normal_(0, std(*fans(layer)), generator=generator)

    return by_layer(draw)
