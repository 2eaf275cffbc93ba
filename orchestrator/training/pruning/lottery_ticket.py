"""A lottery ticket: the weights that are small after training are removed, and the others trained again from where they began.

Frankle and Carbin 2019, The lottery ticket hypothesis, arXiv:1803.03635, in one shot. The trained weights are those of the best
epoch, since they are what a trial keeps. Our deviation: the output layer is pruned as any other, not half as much. The ticket
of a ticket is a round of the paper's iterative pruning: what is removed stays removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

GONE = -1.0
"""In the place of the size of a weight that the trained network lacks: less than any other."""

Mask = Literal["magnitude", "random"]
Scope = Literal["global", "layer"]


def lottery_ticket(
    *, sparsity: float = 0.8, mask: Mask = "magnitude", scope: Scope = "global", reinit: bool = False
) -> LotteryTicket:
    """Removes the share `sparsity` of all weights, exactly so many, those that the trained network lacks among them.

    Args:
        mask: `magnitude` removes those that are smallest after training; `random` as many in each layer, whichever are left.
        scope: the smallest of the whole network (the paper for deep networks), or the same share of each layer (for LeNet).
        reinit: the control of the paper: what is left begins with other weights, drawn in the same way from the trial's own seed.

    Raises:
        ValueError: a value is out of range.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be at least 0 and less than 1, got {sparsity}")
    if mask not in get_args(Mask):
        raise ValueError(f"mask must be one of {', '.join(get_args(Mask))}, got {mask}")
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be one of {', '.join(get_args(Scope))}, got {scope}")
    return LotteryTicket(sparsity, mask, scope, reinit)


@dataclass(frozen=True)
class LotteryTicket:
    """Of `lottery_ticket`."""

    sparsity: float
    mask: Mask
    scope: Scope
    reinit: bool = False

    def removed(
        self, trained: Mapping[str, Tensor], gone: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The masks; of weights of equal size that do not all go, chance decides."""
        sizes = {name: weight.abs().masked_fill(gone[name], GONE).flatten() for name, weight in trained.items()}
        if self.scope == "layer":
            flat = {name: self._smallest(each, generator, f" of {name}") for name, each in sizes.items()}
        else:
            whole = self._smallest(torch.cat(list(sizes.values())), generator)
            parts = torch.split(whole, [len(each) for each in sizes.values()])
            flat = dict(zip(sizes, parts, strict=True))
        found = {name: flat[name].view_as(weight) for name, weight in trained.items()}
        if self.mask == "magnitude":
            return found
        return {name: _as_many(mask, gone[name], generator) for name, mask in found.items()}

    def _smallest(self, sizes: Tensor, generator: torch.Generator, where: str = "") -> Tensor:
        """Which of these are among the smallest, as many as are to go, rounded half up."""
        count = int(self.sparsity * len(sizes) + 0.5)
        if (already := int((sizes == GONE).sum())) > count:
            share = _share(already, len(sizes))
            raise ValueError(
                f"sparsity={self.sparsity:g} is below the {share} of the trial that it comes from: what is removed{where} stays"
                f" removed; set prune.sparsity to at least {share}"
            )
        order = sizes.argsort(stable=True)
        mask = torch.zeros(len(sizes), dtype=torch.bool)
        mask[order[:count]] = True
        if 0 < count < len(sizes) and sizes[order[count - 1]] == sizes[order[count]]:
            tied = sizes == sizes[order[count]]
            places, going = tied.nonzero().flatten(), int((tied & mask).sum())
            mask[tied] = False
            mask[places[torch.randperm(len(places), generator=generator)[:going]]] = True
        return mask


def _share(count: int, of: int) -> str:
    """The shortest number for which so many of these go."""
    texts = [f"{count / of:.{digits}g}" for digits in range(1, 18)]
    return next((text for text in texts if int(float(text) * of + 0.5) == count), texts[-1])


def _as_many(mask: Tensor, gone: Tensor, generator: torch.Generator) -> Tensor:
    """A mask that is true in as many places: those that are gone, and others, each as likely."""
    drawn = gone.flatten().clone()
    left = (~drawn).nonzero().flatten()
    drawn[left[torch.randperm(len(left), generator=generator)[: int(mask.sum()) - int(gone.sum())]]] = True
    return drawn.view_as(mask)
