"""LSUV: orthogonal weights, then every layer rescaled until its output has variance 1 on a mini-batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import checks
from models.initializers.biases import Bias
from models.initializers.gain import Gain, factor
from models.initializers.observed import Layer, visit
from models.initializers.orthogonal import orthogonal
from models.initializers.scheme import Scheme


def lsuv(
    *,
    tolerance: float = 0.1,
    iterations: int = 10,
    scale: float = 1.0,
    gain: Gain = "linear",
    bias: Bias = "constant",
    bias_value: float = 0.0,
) -> Scheme:
    """Layer-sequential unit variance, on a mini-batch of training images; biases are not rescaled.

    Args:
        tolerance: a layer is left when the standard deviation of its output is within this share of the one wanted.
        iterations: a layer is left after so many rescalings in any case, which the paper's algorithm does not say.
        scale: the standard deviation wanted.
        gain: of the units, times `scale`: a number, or their activation: `linear`, `relu`, `leaky_relu`, `tanh`, `selu`.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Mishkin and Matas 2016, All You Need Is a Good Init, arXiv:1511.06422, algorithm 1; our deviation: all
    iterations look at the same mini-batch, so that a convolution or linear layer is right after the first.
    """
    checks.positive("tolerance", tolerance)
    checks.at_least("iterations", iterations, 1)
    checks.positive("scale", scale)
    wanted = scale * factor(gain)
    begin = orthogonal(bias=bias, bias_value=bias_value)

    def rescale(layer: Layer) -> None:
        for _ in range(iterations):
            std = layer.outputs().std(unbiased=False).item() / wanted
            if abs(std - 1) < tolerance or not 0 < std < float("inf"):
                return
            layer.weight.fill(layer.values / std)

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        begin(model, generator, images)
        visit(model, images, rescale, name="lsuv")

    return scheme
