"""What a choice of `transfer` is to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from orchestrator.training.transfer.layers import Layer, layers_of


def _as_it_is(model: nn.Module, num_classes: int, image: torch.Size) -> nn.Module:
    return model


def _all_layers(layers: list[Layer]) -> int:
    return len(layers)


@dataclass(frozen=True)
class Transfer:
    """Which layers of a network are trained, and how fast.

    Args:
        adapt: (network, classes, shape of an image) -> the network that is trained, made of its modules.
        count: the layers with weights, from input to output -> how many of them are trained, counted from the output.
        features_once: nothing but the last part is trained, on features that are computed once.
        lr_factor: the learning rate of each stage is that of the next one times this.
        from_scratch: `pretrained` is not taken over.

    Raises (from its functions):
        ValueError: the network does not have what is asked for.
    """

    adapt: Callable[[nn.Module, int, torch.Size], nn.Module] = _as_it_is
    count: Callable[[list[Layer]], int] = _all_layers
    features_once: bool = False
    lr_factor: float = 1.0
    from_scratch: bool = False

    def trained(self, model: nn.Module) -> list[Layer]:
        """The layers of an adapted network that are trained.

        Raises:
            ValueError: there are fewer layers than asked for.
        """
        layers = layers_of(model)
        if self.features_once:
            return [layer for layer in layers if layer.stage == layers[-1].stage]
        return layers[len(layers) - self.count(layers) :]
