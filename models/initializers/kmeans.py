"""Spherical k-means initialization: the filters of a layer are the centroids of what reaches it, on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import checks
from models.initializers.biases import Bias
from models.initializers.gain import Gain, factor
from models.initializers.lecun import lecun
from models.initializers.observed import Layer, visit
from models.initializers.patches import fill_from_samples
from models.initializers.scheme import Scheme
from models.initializers.within_layer import standardize_features

# S samples, D numbers of a filter, K filters

SHORTEST = 1e-6
"""A shorter sample, such as a patch of one color, has no direction."""


def kmeans(
    *,
    iterations: int = 10,
    scale: float = 1.0,
    gain: Gain = "linear",
    normalize: bool = False,
    bias: Bias = "constant",
    bias_value: float = 0.0,
) -> Scheme:
    """Each layer's filters have length 1: centroids of the directions of its inputs on a mini-batch, which are centred first.

    The centroids begin as random samples; a layer with more filters than samples gets random directions besides.

    Args:
        iterations: of k-means.
        scale, gain: multiply the filters' length 1; with `normalize`, the standard deviation 1 of the features.
        normalize: then make each feature's mean 0 and variance 1, as in `within_layer`: the length is that of no filter then, and
            the data decide the biases.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Kraehenbuehl et al. 2016, Data-dependent Initializations of Convolutional Neural Networks, arXiv:1511.06856,
    section 3.1, after Coates and Ng 2012, Learning Feature Representations with K-Means; our deviation: the samples are
    not whitened.
    """
    checks.at_least("iterations", iterations, 1)
    checks.positive("scale", scale)
    length = scale * factor(gain)
    begin = lecun(bias=bias, bias_value=bias_value)

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        def fill(layer: Layer) -> None:
            fill_from_samples(layer, generator, lambda *given: centroids(*given, iterations=iterations), length)
            if normalize:
                standardize_features(layer, length)

        begin(model, generator, images)
        visit(model, images, fill, name="kmeans")

    return scheme


def centroids(samples_SD: Tensor, count: int, generator: torch.Generator, *, iterations: int) -> Tensor:
    """`count` directions [K, D] of length 1 that the directions of the samples gather around."""
    lengths = samples_SD.norm(dim=1)
    directions_SD = samples_SD[lengths > SHORTEST] / lengths[lengths > SHORTEST, None]
    order = torch.randperm(len(directions_SD), generator=generator)[:count]
    random_KD = torch.randn(count, samples_SD.shape[1], generator=generator)
    found_KD: Tensor = random_KD / random_KD.norm(dim=1, keepdim=True)
    found_KD[: len(order)] = directions_SD[order]
    for _ in range(iterations):
        nearest_S = (directions_SD @ found_KD.T).argmax(1)
        sums_KD = torch.zeros_like(found_KD).index_add_(0, nearest_S, directions_SD)
        norms_K = sums_KD.norm(dim=1)
        taken = norms_K > SHORTEST  # a centroid that no sample is nearest to stays
        found_KD[taken] = sums_KD[taken] / norms_K[taken, None]
    return found_KD
