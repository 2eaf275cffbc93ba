"""What is measured of one tensor, and of the weights before and after a step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.initializers.parameters import weights

BINS = 30
"""Of every histogram, as on the lectures' slides."""

SATURATED_WITHIN = 0.01
"""A value is saturated nearer to a bound than this share of its range: above 0.98 or below -0.98 for tanh."""

BOUNDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.ReLU6: (-math.inf, 6.0),  # at 0 it is no more saturated than a ReLU
}
"""The range of each bounded activation."""

SMALL = 1e-3
"""A weight below it in magnitude is as good as none (E26)."""


@dataclass(frozen=True)
class Histogram:
    """How many values fall into each of `BINS` bins of equal width from `low` to `high`, both ends counted in."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """A tensor in numbers, of its finite values alone; 0 everywhere where there are none.

    Args:
        std: about the mean, dividing by the number of values.
        second_moment: the mean of the squares.
        nonfinite: how many values are infinite or no number.
        unit: the histogram from -1 to 1; what lies outside is in no bin.
        whole: that from the smallest to the largest value.
    """

    mean: float
    std: float
    second_moment: float
    least: float
    most: float
    nonfinite: int
    unit: Histogram
    whole: Histogram


def summary(tensor: Tensor) -> Summary:
    """In float64, in which squares of finite values in float32 cannot overflow."""
    values = tensor.detach().flatten()
    finite = values[values.isfinite()].double()
    nonfinite = values.numel() - finite.numel()
    if not finite.numel():
        nothing = Histogram(-1.0, 1.0, (0,) * BINS)
        return Summary(0.0, 0.0, 0.0, 0.0, 0.0, nonfinite, nothing, nothing)
    mean, second = finite.mean(), finite.square().mean()
    least, most = torch.aminmax(finite)
    std = (finite - mean).square().mean().sqrt()
    # one transfer: on a GPU each waits for all work in flight
    first, spread, square, low, high = torch.stack([mean, std, second, least, most]).tolist()
    ends = (low, high) if low < high else (low - 0.5, high + 0.5)
    unit, whole = histogram(finite, -1.0, 1.0), histogram(finite, *ends)
    return Summary(first, spread, square, low, high, nonfinite, unit, whole)


def histogram(values: Tensor, low: float, high: float) -> Histogram:
    """Of the values from `low` to `high`."""
    inside = values[(values >= low) & (values <= high)]
    places = ((inside - low) / (high - low) * BINS).long().clamp_(max=BINS - 1)
    return Histogram(low, high, tuple(torch.bincount(places, minlength=BINS).tolist()))


def dead_units(outputs: Tensor, feature_axis: int) -> float:
    """The share of units that give exactly 0 for every example and position."""
    by_unit = outputs.detach().movedim(feature_axis, 0).flatten(1)
    return float((by_unit == 0).all(1).float().mean())


def saturated(outputs: Tensor, activation: nn.Module) -> float | None:
    """The share of values at a bound of the activation that gave them; None where it has no bounds."""
    bounds = BOUNDS.get(type(activation))
    if bounds is None:
        return None
    low, high = bounds
    margin = SATURATED_WITHIN * ((high - low) if math.isfinite(high - low) else high)
    values = outputs.detach()
    return float(((values < low + margin) | (values > high - margin)).float().mean())


def small_weights(model: nn.Module) -> float:
    """The share of the weights of all layers that are below `SMALL` in magnitude: what a penalty has all but removed."""
    tensors = [weight.tensor.detach() for weight in weights(model)]
    count = sum(tensor.numel() for tensor in tensors)
    if not count:
        return math.nan
    return float(sum((tensor.abs() < SMALL).sum() for tensor in tensors)) / count


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of all layers as they are now, by name, for `update_ratios`."""
    return {weight.name: weight.tensor.detach().clone() for weight in weights(model)}


def update_ratios(model: nn.Module, before: Mapping[str, Tensor]) -> dict[str, float]:
    """By the weight's name, the length of its change over its length before; infinite for one that was 0 and changed."""
    ratios = {}
    for weight in weights(model):
        if (old := before.get(weight.name)) is not None:
            change, length = (weight.tensor.detach() - old).double().norm().item(), old.double().norm().item()
            ratios[weight.name] = change / length if length else (math.inf if change else 0.0)
    return ratios
