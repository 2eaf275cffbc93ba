"""What the filters of a layer are laid over, for PCA and k-means: inputs of a linear layer, patches of a convolution's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.initializers.observed import Layer

# S samples, D numbers of a filter, K filters

MOST_SAMPLES = 1024
"""Of the patches of a layer; that many leave PCA within a second a layer."""

Filters = Callable[[Tensor, int, torch.Generator], Tensor]
"""(samples_SD, number K, generator) -> filters_KD."""


def fill_from_samples(layer: Layer, generator: torch.Generator, filters: Filters, factor: float) -> None:
    """Gives a layer filters that are computed from centred samples of its inputs, times `factor`.

    In a grouped convolution each group gets filters of its own channels. Layers that are neither linear nor a
    two-dimensional convolution stay as they are.
    """
    module = layer.weight.module
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    samples = sampled(layer.inputs, module, generator)
    samples = samples - samples.mean(0)
    found = []
    for samples_SD, rows in zip(samples.chunk(groups, dim=1), layer.values.chunk(groups), strict=True):
        found.append(filters(samples_SD, len(rows), generator).reshape(rows.shape))
    layer.weight.fill(factor * torch.cat(found))


def sampled(inputs: Tensor, module: nn.Linear | nn.Conv2d, generator: torch.Generator) -> Tensor:
    """At most MOST_SAMPLES patches of all channels [S, groups * D], drawn without replacement; only those are ever copied."""
    if isinstance(module, nn.Linear):
        patches_SD = inputs.flatten(0, -2)
        return patches_SD[_places(len(patches_SD), generator)]
    padding = module.padding if isinstance(module.padding, tuple) else _same(module)
    view = F.pad(inputs, [size for size in reversed(padding) for _ in range(2)])
    sides = zip(module.kernel_size, module.stride, module.dilation, strict=True)
    for axis, (size, stride, dilation) in enumerate(sides, start=2):
        view = view.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    positions = view.permute(0, 2, 3, 1, 4, 5)  # images, rows, columns, then what a filter has
    number, rows, columns = positions.shape[:3]
    places = _places(number * rows * columns, generator)
    image, row, column = places // (rows * columns), places // columns % rows, places % columns
    return positions[image, row, column].flatten(1)


def _places(number: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(number, generator=generator)[:MOST_SAMPLES]


def _same(module: nn.Conv2d) -> tuple[int, ...]:
    """Padding that is given as text."""
    if module.padding == "valid":
        return (0, 0)
    pairs = zip(module.dilation, module.kernel_size, strict=True)
    return tuple(dilation * (size - 1) // 2 for dilation, size in pairs)
