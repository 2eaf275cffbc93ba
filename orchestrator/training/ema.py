"""An exponential moving average of a network's weights, which is evaluated and kept in place of the weights themselves.

Polyak and Juditsky 1992; as `tf.train.ExponentialMovingAverage` with `num_updates`: the first averages forget faster, decay
min(d, (1 + n) / (10 + n)) after n updates, so that the initial weights do not weigh on a short training. Statistics of batch
normalization are averaged, too, as `torch.optim.swa_utils.AveragedModel(use_buffers=True)` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """The average of what changes in a network's state; what is no floating-point number is that of the network.

    Args:
        decay: of the past, in [0, 1).
        unchanging: names that no step changes.

    Attributes:
        updates: how many were taken.
    """

    def __init__(self, network: nn.Module, decay: float, unchanging: Collection[str] = ()) -> None:
        self.updates = 0
        self._network, self._decay = network, decay
        state = network.state_dict()
        names = [name for name, tensor in state.items() if tensor.is_floating_point() and name not in unchanging]
        self._live = {name: state[name] for name in names}
        self._averages = {name: tensor.clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights of now."""
        weight = 1 - min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, average in self._averages.items():
            average.lerp_(self._live[name], weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the network has the averages; afterwards its own weights, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """The averages; they change with the next update."""
        return dict(self._averages)

    def restore(self, updates: int, averages: Mapping[str, Tensor]) -> None:
        """Goes on from a checkpoint, on the device of the network."""
        self.updates = updates
        for name, average in self._averages.items():
            average.copy_(averages[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, average in self._averages.items():
            live = self._live[name]
            held = live.clone()
            live.copy_(average)
            average.copy_(held)
