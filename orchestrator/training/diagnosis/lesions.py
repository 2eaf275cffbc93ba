"""Units deleted and swapped at test time, on the validation images.

Source: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, arXiv:1605.06431, section 4.
Our deviation: a unit that changes the shape is deleted, too, where it has a shortcut that does so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.outputs import main_output
from orchestrator.training.diagnosis.subject import Subject
from orchestrator.training.evaluate import in_slices
from orchestrator.training.units import Unit, alike, replaced, units_of, without

SIZES = 12
"""Numbers of units that are deleted together, and of pairs that are swapped, spread evenly."""

DRAWS = 20
"""Sets of units of each size; where there are no more, all of them."""

ORDERS = 5
"""Random orders of each number of swaps."""


@dataclass(frozen=True)
class Single:
    """A unit deleted by itself.

    Args:
        error: of the network without it; None where it cannot be left out.
    """

    name: str
    keeps_shape: bool
    error: float | None


@dataclass(frozen=True)
class Several:
    """Sets of `count` units deleted, and the error of each.

    Args:
        complete: whether these are all sets of that size, and not random ones.
    """

    count: int
    complete: bool
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Order:
    """Units in another order: `swaps` pairs swapped one after the other.

    Args:
        tau: Kendall's, of the new order with that of the training; 1 is the same order.
    """

    swaps: int
    tau: float
    error: float


@dataclass(frozen=True)
class Lesion:
    """A network without some of its units.

    Args:
        residual: whether its units have shortcuts.
        images: validation images that errors are shares of.
        error: of the whole network.
    """

    residual: bool
    images: int
    classes: int
    error: float
    singles: tuple[Single, ...]
    several: tuple[Several, ...]
    orders: tuple[Order, ...]


def lesioned(subject: Subject, *, draws: int = DRAWS, images: int | None = None, seed: int = 0) -> Lesion:
    """Deletes and swaps units of the network.

    Args:
        draws: random sets of each size; all where there are no more, and always all single units.
        images: of the validation split, the first so many; all by default.

    Raises:
        ValueError: the network has no units that can be left out.
    """
    model = subject.model.eval()
    units = units_of(model, subject.batch.images)
    free = [unit for unit in units if unit.free]
    if not free:
        raise ValueError(
            "the network has no units that can be left out: no residual blocks, and no stages of equal layers"
        )
    batches, labels = _validation(subject, images)
    draw = torch.Generator().manual_seed(seed)

    def error() -> float:
        with torch.inference_mode():
            said = torch.cat([main_output(model(batch)).argmax(1) for batch in batches])
        return float((said != labels).double().mean())

    whole = error()
    singles = []
    for unit in units:
        alone: float | None = None
        if unit in free:
            with without(model, [unit]):
                alone = error()
        singles.append(Single(unit.name, unit.keeps_shape, alone))
    several = []
    for count in spread(len(free)):
        if count == 1:
            several.append(Several(1, True, tuple(one.error for one in singles if one.error is not None)))
            continue
        errors = []
        for chosen in sets(len(free), count, draws, draw):
            with without(model, [free[place] for place in chosen]):
                errors.append(error())
        several.append(Several(count, math.comb(len(free), count) <= draws, tuple(errors)))
    orders = []
    for swaps in spread(len(units)):
        for _ in range(ORDERS):
            places = swapped(units, swaps, draw)
            if places == sorted(places):
                continue
            with replaced(model, _reordered(model, units, places)):
                orders.append(Order(swaps, kendall_tau(places), error()))
    shape = (units[0].residual, len(labels), subject.data.dataset.num_classes, whole)
    return Lesion(*shape, tuple(singles), tuple(several), tuple(orders))


def spread(most: int) -> list[int]:
    """At most `SIZES` numbers from 1 to `most`, evenly, both among them."""
    if most <= SIZES:
        return list(range(1, most + 1))
    return sorted({1 + round(number * (most - 1) / (SIZES - 1)) for number in range(SIZES)})


def sets(units: int, count: int, most: int, draw: torch.Generator) -> list[tuple[int, ...]]:
    """All sets of `count` of the units 0, 1, ..., or `most` random ones, each another, where there are more."""
    if math.comb(units, count) <= most:
        return list(itertools.combinations(range(units), count))
    found: dict[tuple[int, ...], None] = {}
    while len(found) < most:
        found[tuple(sorted(torch.randperm(units, generator=draw)[:count].tolist()))] = None
    return list(found)


def swapped(units: Sequence[Unit], swaps: int, draw: torch.Generator) -> list[int]:
    """Which unit stands at each place after random pairs of units of one shape, that keep it, were swapped."""
    places = list(range(len(units)))
    pairs = alike(units)
    for _ in range(swaps if pairs else 0):
        first, second = pairs[int(torch.randint(len(pairs), (), generator=draw))]
        places[first], places[second] = places[second], places[first]
    return places


def kendall_tau(places: Sequence[int]) -> float:
    """Concordant minus discordant pairs over all pairs, of an order of 0, 1, ..., n - 1 with the sorted one."""
    count = len(places)
    discordant = sum(places[first] > places[second] for second in range(count) for first in range(second))
    return 1 - 4 * discordant / (count * (count - 1)) if count > 1 else 1.0


def _reordered(model: nn.Module, units: Sequence[Unit], places: Sequence[int]) -> dict[str, nn.Module]:
    return {unit.name: model.get_submodule(units[place].name) for unit, place in zip(units, places, strict=True)}


def _validation(subject: Subject, most: int | None) -> tuple[list[Tensor], Tensor]:
    split = subject.data.splits["val"]
    count = len(split) if most is None else min(most, len(split))
    batches: list[Tensor] = []
    for batch in in_slices(split, channels_last=subject.channels_last):
        left = count - sum(map(len, batches))
        if left <= 0:
            break
        batches.append(batch[:left])
    return batches, split.labels[:count]
