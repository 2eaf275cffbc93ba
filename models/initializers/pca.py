"""PCA initialization: the filters of a layer are the principal directions of what reaches it."""

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

# S samples, D numbers of a filter, K filters, R directions

SMALLEST_VARIANCE = 1e-9
"""As a share of the largest; below, a direction is rounding."""


def pca(
    *,
    scale: float = 1.0,
    gain: Gain = "linear",
    normalize: bool = False,
    bias: Bias = "constant",
    bias_value: float = 0.0,
) -> Scheme:
    """Each layer's filters are orthonormal: the directions in which its inputs on a mini-batch vary most, of random sign.

    Where a layer has more filters than there are such directions, random ones of length 1 follow: those in which nothing
    varies would be dead.

    Args:
        scale, gain: multiply the filters' length 1; with `normalize`, the standard deviation 1 of the features.
        normalize: then make each feature's mean 0 and variance 1, as in `within_layer`: the length is that of no filter then, and
            the data decide the biases.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Kraehenbuehl et al. 2016, Data-dependent Initializations of Convolutional Neural Networks, arXiv:1511.06856,
    section 3.1; our deviation: filters of length 1, not divided by the standard deviation of their direction.
    """
    checks.positive("scale", scale)
    length = scale * factor(gain)
    begin = lecun(bias=bias, bias_value=bias_value)

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        def fill(layer: Layer) -> None:
            fill_from_samples(layer, generator, principal_directions, length)
            if normalize:
                standardize_features(layer, length)

        begin(model, generator, images)
        visit(model, images, fill, name="pca")

    return scheme


def principal_directions(samples_SD: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` filters [K, D] of length 1: the directions of the most variance first, then random ones."""
    found_RD = varying_directions(samples_SD.double(), count)
    more = torch.randn(count - len(found_RD), samples_SD.shape[1], generator=generator, dtype=torch.float64)
    signs = torch.randint(2, (len(found_RD), 1), generator=generator) * 2 - 1
    return torch.cat([signs * found_RD, more / more.norm(dim=1, keepdim=True)]).to(samples_SD.dtype)


def varying_directions(samples_SD: Tensor, most: int) -> Tensor:
    """At most `most` principal directions [R, D]; those in which the samples hardly vary are left out."""
    wide = samples_SD.shape[1] > len(samples_SD)
    small = samples_SD if wide else samples_SD.T
    variances, vectors = torch.linalg.eigh(small @ small.T)  # of the smaller of the two matrices; the other's follow
    kept = (variances > variances.max() * SMALLEST_VARIANCE).nonzero().flatten().flip(0)[:most]
    found_RD: Tensor = vectors.T[kept]
    return found_RD @ samples_SD / variances[kept].sqrt().unsqueeze(1) if wide else found_RD
