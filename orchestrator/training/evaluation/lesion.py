"""Lesions: the network without some of its units, or with some of them in each other's place, which it was not trained for.

Paper: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, arXiv:1605.06431, section 4.
Our deviation: each image has units of its own, so that one pass gives the mean accuracy over all units; and a unit that changes
the shape is deleted, too, where it has a shortcut that does so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.training.evaluation.base import Evaluation, Image, Look
from orchestrator.training.evaluation.drawn import subsets
from orchestrator.training.units import Unit, alike, replaced, units_for


def lesion(*, deleted: int = 1, swapped: int = 0, seed: int = 0) -> Evaluation:
    """One pass in which `deleted` units of each image are left out, or `swapped` pairs of units change places.

    The branch of a residual unit gives 0. A plain unit, which must keep the shape, gives what it is given. Units that are
    swapped keep one shape; pairs are swapped one after the other, each another. Which ones follows from the seed and the
    image's place among those evaluated. Of as many images as there are units, or pairs, in a row, each is chosen equally often:
    the accuracy with `deleted=1` is the mean over all units. What is deleted of an image is deleted with a larger number, too.

    Args:
        deleted: 0 leaves out none.
        seed: the engine gives one that follows from the trial's.

    Raises:
        ValueError: one is negative, or both are given. (When a network is there) it has fewer units or pairs.
    """
    if deleted < 0 or swapped < 0:
        raise ValueError(f"deleted and swapped must be at least 0, got {deleted} and {swapped}")
    if deleted and swapped:
        raise ValueError(f"deletes or swaps, got deleted={deleted} and swapped={swapped}; set one of them to 0")
    return _Lesion(deleted, swapped, seed)


@dataclass(frozen=True)
class _Lesion:
    deleted: int
    swapped: int
    seed: int

    def check(self, model: nn.Module, image: Image) -> None:
        units = units_for(model, image)
        free, pairs = sum(unit.free for unit in units), len(alike(units))
        if not free:
            raise ValueError(
                "needs a network with units that can be left out, and this one has none: no residual blocks, and no stages"
                " with layers that keep the shape; set model=resnet_cifar, plain_cifar or residual_mlp, or evaluate=single_crop"
            )
        if self.deleted > free:
            rest = ", those that keep the shape" if free < len(units) else ""
            raise ValueError(f"deleted must be at most {free}, the units of this network{rest}, got {self.deleted}")
        if self.swapped > pairs:
            raise ValueError(
                f"swapped must be at most {pairs}, the pairs of this network's units that keep the same shape, got {self.swapped}"
            )

    def passes(self, image_size: tuple[int, int]) -> int:
        del image_size
        return 1

    def answers(self, model: nn.Module, look: Look, stored: Tensor, first: int) -> Iterator[Tensor]:
        units = units_for(model, stored.shape[1:])
        if self.swapped:
            pairs = alike(units)
            chosen = subsets(self.seed, first, len(stored), of=len(pairs), size=self.swapped)
            with swapping(model, units, _orders(len(units), pairs, chosen)):
                yield look(stored)
        else:
            free = [unit for unit in units if unit.free]
            chosen = subsets(self.seed, first, len(stored), of=len(free), size=self.deleted)
            gone = torch.zeros(len(stored), len(free), dtype=torch.bool).scatter_(1, chosen, True)
            with deleting(model, free, gone):
                yield look(stored)


@contextmanager
def deleting(model: nn.Module, units: Sequence[Unit], gone: Tensor) -> Iterator[None]:
    """Within the block each image does without some units.

    Args:
        gone: whether a unit is deleted, bool [N, units].
    """

    def of_branch(rows: Tensor) -> Any:
        return lambda module, inputs, outputs: outputs.masked_fill(_beside(rows, outputs), 0)

    def of_unit(rows: Tensor) -> Any:
        return lambda module, inputs, outputs: torch.where(_beside(rows, outputs), inputs[0], outputs)

    handles = []
    for unit, rows in zip(units, gone.T, strict=True):
        hook, name = (of_branch, f"{unit.name}.branch") if unit.residual else (of_unit, unit.name)
        handles.append(model.get_submodule(name).register_forward_hook(hook(rows)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def swapping(model: nn.Module, units: Sequence[Unit], orders: Tensor) -> Iterator[None]:
    """Within the block units stand in another order for each image.

    Args:
        orders: which unit stands at each place, [N, units].
    """
    modules = [model.get_submodule(unit.name) for unit in units]
    moved = [place for place in range(len(units)) if bool((orders[:, place] != place).any())]
    with replaced(model, {units[place].name: _OneOf(modules, orders[:, place]) for place in moved}):
        yield


class _OneOf(nn.Module):
    """Takes each image through one of several modules, all of which give the same shape."""

    def __init__(self, modules: Sequence[nn.Module], taken: Tensor) -> None:
        super().__init__()
        self.others = tuple(modules)  # a tuple, so that they are no children and keep their names in the network
        self.taken = taken

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor | None = None
        for number in sorted(set(self.taken.tolist())):
            rows = (self.taken == number).nonzero()[:, 0].to(x.device)
            said = self.others[number](x[rows])
            out = said.new_empty((len(x), *said.shape[1:])) if out is None else out
            out[rows] = said
        assert out is not None, "a batch has images"
        return out


def _orders(units: int, pairs: Sequence[tuple[int, int]], chosen: Tensor) -> Tensor:
    """Which unit stands at each place, [N, units], after the chosen pairs of each image, [N, swapped], were swapped in turn."""
    orders = torch.arange(units).repeat(len(chosen), 1)
    for pair in torch.tensor(pairs)[chosen].unbind(1):
        orders.scatter_(1, pair, orders.gather(1, pair.flip(1)))
    return orders


def _beside(rows: Tensor, outputs: Tensor) -> Tensor:
    """[N] as [N, 1, ...], to stand beside what a unit gives."""
    if len(outputs) != len(rows):
        raise ValueError(f"needs units that give one row for each of {len(rows)} images, got {len(outputs)}")
    return rows.to(outputs.device).view(-1, *[1] * (outputs.dim() - 1))
