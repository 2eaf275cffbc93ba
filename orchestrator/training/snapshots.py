"""The weights of a trial at the end of each cycle of its learning rate: snapshots, an ensemble from one training.

Huang et al. 2017, Snapshot ensembles, arXiv:1704.00109: the schedule is `cyclic_cosine`, and its cycles are equally long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn


def snapshot_epochs(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The epochs after which the weights are kept: those with which the cycles of the schedule end; none unless that is asked.

    Raises:
        ValueError: the schedule has no cycles, or other ones, or they do not end with an epoch.
    """
    count, epochs, schedule = config.get("snapshots"), config["epochs"], config["schedule"]
    if count is None:
        return ()
    if "cycles" not in schedule:
        raise ValueError(
            "are kept at the ends of the cycles of a schedule, and this one has none; write schedule=cyclic_cosine"
            f" schedule.cycles={count}"
        )
    if schedule["cycles"] != count:
        raise ValueError(
            f"must be as many as the schedule has cycles, {schedule['cycles']}; write schedule.cycles={count}"
        )
    warmup = schedule.get("warmup_epochs", 0)
    length = (epochs - warmup) / count
    if length != int(length) or length < 1:
        whole = max(1, round(length))
        after = f" after schedule.warmup_epochs={warmup:g}" if warmup else ""
        raise ValueError(
            f"{count} cycles in epochs={epochs}{after} do not end with an epoch; write epochs={int(warmup) + count * whole}"
            + (f" schedule.warmup_epochs={int(warmup)}" if warmup != int(warmup) else "")
        )
    return tuple(int(warmup + length * (number + 1)) for number in range(count))


class Snapshots:
    """Weights as they were after some epochs.

    Args:
        epochs: these, in order.
        unchanging: names that are the same in all epochs, which are not copied.

    Attributes:
        taken: the states of the network so far, in their order.
    """

    def __init__(self, epochs: tuple[int, ...], unchanging: Collection[str] = ()) -> None:
        self.epochs = epochs
        self.taken: list[dict[str, Tensor]] = []
        self._unchanging = unchanging

    def look(self, epoch: int, network: nn.Module) -> None:
        """Takes the weights if a cycle ended with this epoch."""
        if epoch in self.epochs:
            state = network.state_dict()
            still = self._unchanging
            self.taken.append({name: one if name in still else one.clone() for name, one in state.items()})

    def changing(self) -> dict[str, Tensor]:
        """What a checkpoint holds of them."""
        return {
            f"{number}/{name}": tensor
            for number, state in enumerate(self.taken, 1)
            for name, tensor in state.items()
            if name not in self._unchanging
        }

    def restore(self, epoch: int, network: nn.Module, changing: Mapping[str, Tensor]) -> None:
        """Goes on from the checkpoint of an epoch."""
        live = network.state_dict()
        self.taken = [
            {name: live[name] if name in self._unchanging else changing[f"{number}/{name}"] for name in live}
            for number, end in enumerate(self.epochs, 1)
            if end <= epoch
        ]
