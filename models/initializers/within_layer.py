"""Within-layer initialization: every feature has mean 0 and variance 1 on a mini-batch before its activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import checks
from models.initializers.gain import Gain, factor
from models.initializers.gaussian import gaussian
from models.initializers.observed import Layer, visit
from models.initializers.scheme import Scheme

SMALLEST_STD = 1e-6
"""Of a feature; one that is constant on the mini-batch keeps its weights."""


def within_layer(*, scale: float = 1.0, gain: Gain = "linear") -> Scheme:
    """Gaussian weights, then each feature y of each layer made (y - mean) / std on a mini-batch of training images.

    W becomes W / std and b becomes (b - mean) / std; in a layer without bias the mean stays.

    Args:
        scale: the standard deviation wanted of each feature.
        gain: of the units, times `scale`: a number, or their activation: `linear`, `relu`, `leaky_relu`, `tanh`, `selu`.

    Source: Kraehenbuehl et al. 2016, Data-dependent Initializations of Convolutional Neural Networks, arXiv:1511.06856,
    algorithm 1.
    """
    checks.positive("scale", scale)
    wanted = scale * factor(gain)
    begin = gaussian(std=1.0)

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        begin(model, generator, images)
        visit(model, images, lambda layer: standardize_features(layer, wanted), name="within_layer")

    return scheme


def standardize_features(layer: Layer, scale: float = 1.0) -> None:
    """Each feature of the layer to mean 0 and standard deviation `scale` on what reached it."""
    features = layer.outputs().movedim(layer.feature_axis, 0).flatten(1)
    std, mean = torch.std_mean(features, dim=1, unbiased=False)
    factors = scale / torch.where(std > SMALLEST_STD, std, torch.full_like(std, scale))
    layer.weight.fill(layer.values * _by_output(factors, layer))
    if layer.bias is not None:
        layer.bias.fill((layer.bias.tensor - mean) * factors)


def _by_output(factors: Tensor, layer: Layer) -> Tensor:
    """One factor for each output, in the shape of the weight."""
    return factors.reshape(-1, *[1] * (layer.weight.tensor.ndim - 1))
