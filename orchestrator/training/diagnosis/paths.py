"""The paths through a residual network, one for each set of units whose branch it takes, and the gradient along them by length.

Source: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, arXiv:1605.06431, sections 3
and 5. Theirs is the sampling: the network is computed as it is; backward, the gradient takes the branches of k random units
and the shortcuts of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from orchestrator.training.diagnosis.subject import Subject
from orchestrator.training.losses.base import Batch
from orchestrator.training.units import along_one_path, units_of

IMAGES = 32
"""In the batch of each sample, drawn anew from the training images that are looked at."""

LENGTHS = 61
"""Lengths that are sampled, spread evenly where there are more; what lies between is interpolated in the logarithm."""

MOST = 0.95
"""Share of the paths that the range of usual lengths holds."""


@dataclass(frozen=True)
class Length:
    """Paths through `units` branches.

    Args:
        share: of all 2^n paths, so many.
        gradient: the length of the loss's gradient with respect to the images along one such path, the mean over samples.
        spread: its standard deviation over samples; 0 where it is interpolated.
        samples: 0 where it is interpolated.
        weight: the share of this length in share * gradient, summed over all lengths.
    """

    units: int
    share: float
    gradient: float
    spread: float
    samples: int
    weight: float


@dataclass(frozen=True)
class Paths:
    """The paths of a network of `units` residual units.

    Args:
        mean: length, over all paths: n / 2.
        weighted: the mean length where each path counts by its gradient.
    """

    units: int
    mean: float
    weighted: float
    lengths: tuple[Length, ...]

    def between(self, low: int, high: int, *, by_gradient: bool = False) -> float:
        """The share of paths of `low` to `high` units, or of the gradient along them."""
        return sum(one.weight if by_gradient else one.share for one in self.lengths if low <= one.units <= high)

    def usual(self, *, by_gradient: bool = False) -> tuple[int, int]:
        """The shortest range of lengths that holds at least `MOST` of it; of equally long ones the one that holds more."""
        weights = [one.weight if by_gradient else one.share for one in self.lengths]
        return usual(weights)


def shares(units: int) -> list[float]:
    """Of 2^n paths, the share of each length from 0 to n: binomial."""
    return [math.comb(units, length) / 2**units for length in range(units + 1)]


def usual(weights: Sequence[float]) -> tuple[int, int]:
    """See `Paths.usual`."""
    for width in range(len(weights)):
        starts = range(len(weights) - width)
        best = max(starts, key=lambda start: sum(weights[start : start + width + 1]))
        if sum(weights[best : best + width + 1]) >= MOST * (1 - 1e-12):
            return best, best + width
    return 0, len(weights) - 1


def paths(subject: Subject, *, samples: int = 20, seed: int = 0) -> Paths:
    """Samples the gradient by the length of the path.

    Args:
        samples: of each length.

    Raises:
        ValueError: the network has no residual units.
    """
    with subject.at_work():
        units = units_of(subject.model, subject.batch.images)
        if not units or not units[0].residual:
            raise ValueError("the network has no residual units, so that there is one path through it")
        count = len(units)
        draw = torch.Generator().manual_seed(seed)
        names = [unit.name for unit in units]
        gradients: dict[int, list[float]] = {}
        for length in _sampled(count):
            for _ in range(samples):
                through = frozenset(names[place] for place in torch.randperm(count, generator=draw)[:length].tolist())
                with along_one_path(subject.model, units, through):
                    gradients.setdefault(length, []).append(_gradient(subject, draw))
    return weighed(count, gradients)


def _sampled(count: int) -> list[int]:
    if count < LENGTHS:
        return list(range(count + 1))
    return sorted({round(number * count / (LENGTHS - 1)) for number in range(LENGTHS)})


def _gradient(subject: Subject, draw: torch.Generator) -> float:
    """The length of the loss's gradient with respect to a random batch of images."""
    batch = subject.batch
    places = torch.randperm(len(batch.labels), generator=draw)[:IMAGES]
    here = places.to(subject.device)
    images = batch.images.index_select(0, here).detach().requires_grad_()
    part = Batch(images, batch.labels.index_select(0, here), batch.indices[places])
    loss = subject.loss(subject.model(images), part.labels, part)
    (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
    return 0.0 if gradient is None else float(gradient.double().norm())


def weighed(units: int, gradients: Mapping[int, Sequence[float]]) -> Paths:
    """All lengths, from samples of some, 0 and `units` among them."""
    means = {length: sum(found) / len(found) for length, found in gradients.items()}
    gradient = [_between(means, length) for length in range(units + 1)]
    share = shares(units)
    raw = [one * size for one, size in zip(share, gradient, strict=True)]
    total = sum(raw)
    lengths = tuple(
        Length(
            units=length,
            share=share[length],
            gradient=gradient[length],
            spread=_std(gradients.get(length, ())),
            samples=len(gradients.get(length, ())),
            weight=raw[length] / total if total else share[length],
        )
        for length in range(units + 1)
    )
    return Paths(units, units / 2, sum(one.units * one.weight for one in lengths), lengths)


def _between(means: Mapping[int, float], length: int) -> float:
    """In the logarithm, where both sides have one."""
    if length in means:
        return means[length]
    low, high = max(one for one in means if one < length), min(one for one in means if one > length)
    along = (length - low) / (high - low)
    if means[low] > 0 and means[high] > 0:
        return math.exp((1 - along) * math.log(means[low]) + along * math.log(means[high]))
    return (1 - along) * means[low] + along * means[high]


def _std(found: Sequence[float]) -> float:
    if not found:
        return 0.0
    mean = sum(found) / len(found)
    return math.sqrt(sum((one - mean) ** 2 for one in found) / len(found))
