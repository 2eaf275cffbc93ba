"""The weights of a trial averaged over its last epochs, once an epoch: stochastic weight averaging.

Izmailov et al. 2018, arXiv:1803.05407, with whatever schedule the trial has. As `torch.optim.swa_utils.AveragedModel` does
it: the running mean of parameters, and the buffers of the last epoch. Statistics of batch normalization are those of no average;
who uses it computes them anew (`soups`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def first_epoch(config: Mapping[str, Any]) -> int | None:
    """The first epoch whose weights are averaged; None where none are."""
    share = config.get("average_from")
    return None if share is None else int(round(share * config["epochs"], 6)) + 1


class Average:
    """A running mean of weights.

    Args:
        unchanging: names that are the same in all epochs, which are not copied.

    Attributes:
        epochs: how many were averaged.
        weights: the state of a network.
    """

    def __init__(self, unchanging: Collection[str] = ()) -> None:
        self.epochs = 0
        self.weights: dict[str, Tensor] = {}
        self._unchanging = unchanging

    def add(self, network: nn.Module) -> None:
        """Takes the weights of one epoch more."""
        self.epochs += 1
        parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name in self._unchanging:
                    self.weights[name] = tensor
                elif self.epochs > 1 and name in parameters:
                    self.weights[name].lerp_(tensor, 1 / self.epochs)
                else:
                    self.weights[name] = tensor.clone()

    def changing(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {name: tensor for name, tensor in self.weights.items() if name not in self._unchanging}

    def restore(self, epochs: int, network: nn.Module, changing: Mapping[str, Tensor]) -> None:
        """Goes on from a checkpoint, on the device of the network."""
        self.epochs = epochs
        state = network.state_dict()
        self.weights = {name: state[name] for name in state if name in self._unchanging}
        self.weights |= {name: tensor.to(state[name].device) for name, tensor in changing.items()}
