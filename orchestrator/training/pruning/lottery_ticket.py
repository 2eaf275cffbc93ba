"""A lottery ticket: the weights that are small after training are removed, and the others trained again from where they began.

Frankle and Carbin 2019, The lottery ticket hypothesis, arXiv:1803.03635, in one shot. The trained weights are those of the best
epoch, since they are what a trial keeps. Our deviation: the output layer is pruned as any other, not half as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Mask = Literal["magnitude", "random"]
Scope = Literal["global", "layer"]


def lottery_ticket(*, sparsity: float = 0.8, mask: Mask = "magnitude", scope: Scope = "global") -> LotteryTicket:
    """Removes the share `sparsity` of the weights, exactly so many.

    Args:
        mask: `magnitude` removes those that are smallest after training; `random` as many in each layer, whichever.
        scope: the smallest of the whole network (the paper for deep networks), or the same share of each layer (for LeNet).

    Raises:
        ValueError: a value is out of range.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be at least 0 and less than 1, got {sparsity}")
    if mask not in get_args(Mask):
        raise ValueError(f"mask must be one of {', '.join(get_args(Mask))}, got {mask}")
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be one of {', '.join(get_args(Scope))}, got {scope}")
    return LotteryTicket(sparsity, mask, scope)


@dataclass(frozen=True)
class LotteryTicket:
    """Of `lottery_ticket`."""

    sparsity: float
    mask: Mask
    scope: Scope

    def removed(self, trained: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The masks; of weights of equal size the earlier ones go first."""
        if self.scope == "layer":
            found = {name: self._smallest(weight.abs().flatten()).view_as(weight) for name, weight in trained.items()}
        else:
            flat = self._smallest(torch.cat([weight.abs().flatten() for weight in trained.values()]))
            parts = torch.split(flat, [weight.numel() for weight in trained.values()])
            found = {name: part.view_as(weight) for (name, weight), part in zip(trained.items(), parts, strict=True)}
        if self.mask == "magnitude":
            return found
        return {name: _as_many(mask, generator) for name, mask in found.items()}

    def _smallest(self, sizes: Tensor) -> Tensor:
        """Which of these are among the smallest, as many as are to go, rounded half up."""
        count = int(self.sparsity * len(sizes) + 0.5)
        mask = torch.zeros(len(sizes), dtype=torch.bool)
        mask[sizes.argsort(stable=True)[:count]] = True
        return mask


def _as_many(mask: Tensor, generator: torch.Generator) -> Tensor:
    """A mask of this shape that is true in as many places, each as likely."""
    drawn = torch.zeros(mask.numel(), dtype=torch.bool)
    drawn[torch.randperm(mask.numel(), generator=generator)[: int(mask.sum())]] = True
    return drawn.view_as(mask)
