"""What a choice of `prune` is to the engine, and what the engine does with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from orchestrator.training.optimizers.parameters import named_parameters


@runtime_checkable
class Pruning(Protocol):
    """Says which weights of a network are removed."""

    def removed(
        self, trained: Mapping[str, Tensor], gone: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Masks, true where a weight is removed.

        Args:
            trained: by name, the weights of the trained network in the order of its parameters, on the CPU.
            gone: the masks with which it was trained, all false for a dense network; what is removed stays removed.

        Raises:
            ValueError: more is gone than is to be removed.
        """
        ...


def prunable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that may be removed: those of linear maps and convolutions, no biases and nothing of a norm."""
    return {one.name: one.parameter for one in named_parameters(network) if one.role == "weight"}


class Pruned:
    """Weights that are held at zero.

    Args:
        weights: by name, with masks for each.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], removed: Mapping[str, Tensor]) -> None:
        self._pairs = [(weight, removed[name].to(weight.device)) for name, weight in weights.items()]
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """Sets them to zero; after every step, since some optimizers move weights without a gradient."""
        for weight, removed in self._pairs:
            weight.masked_fill_(removed, 0)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Their gradients are none of the network that is left: they enter no norm and no running mean."""
        for weight, removed in self._pairs:
            if weight.grad is not None:
                weight.grad.masked_fill_(removed, 0)
