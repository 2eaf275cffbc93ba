"""Between-layer initialization: the weights of all layers are learned at the same rate, relative to their size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models import checks
from models.initializers.draws import normal_values
from models.initializers.observed import as_in_training, layers_of, needed
from models.initializers.parameters import NamedParameter, Weight
from models.initializers.scheme import Needing, Scheme
from models.initializers.structure import check_chain
from models.initializers.within_layer import within_layer
from models.outputs import main_output

FUNCTIONS = 8
"""Random functions of the logits, over which the squares of gradients are averaged."""

CLOSE = 0.01
"""Rates within this share of their geometric mean are equal."""

Layers = Sequence[tuple[Weight, NamedParameter | None]]


def between_layer(*, iterations: int = 10, damping: float = 1.0) -> Scheme:
    """`within_layer`, then layers rescaled until the gradient of each has the same size relative to its weights.

    The rate of a layer is the root mean square of its gradient over that of its weights, for random linear functions of the
    logits. Each iteration multiplies the weights of a layer by the root of its rate over the geometric mean of all rates;
    biases get the product of the factors up to their layer. With activations such as ReLU, where f(a x) = a f(x), this
    leaves what the network computes. It needs a plain chain of layers.

    Args:
        iterations: at most; fewer where all rates are equal before.
        damping: of the exponent, in (0, 1]; below 1 where the activations bend, as tanh does.

    Source: Kraehenbuehl et al. 2016, Data-dependent Initializations of Convolutional Neural Networks, arXiv:1511.06856,
    algorithm 2; our deviation: the same random functions of the logits in all iterations.
    """
    checks.at_least("iterations", iterations, 1)
    if not 0 < damping <= 1:
        raise ValueError(f"damping must be in (0, 1], got {damping}")
    begin = within_layer()

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        images = needed(images, "between_layer")
        begin(model, generator, images)
        layers = layers_of(model)
        with as_in_training(model):
            logits = main_output(model(images))
            directions = normal_values(torch.Size((FUNCTIONS, *logits.shape)), 1.0, generator)
            for _ in range(iterations):
                rates = relative_rates(model, layers, images, directions)
                factors = (rates / rates.log().mean().exp()).pow(damping / 2)
                if not factors.isfinite().all() or (factors.square() - 1).abs().max() < CLOSE:
                    return
                _rescale(layers, factors)

    return Needing(lambda model: check_chain(model, "between_layer"), scheme)


def relative_rates(model: nn.Module, layers: Layers, images: Tensor, directions: Tensor) -> Tensor:
    """Of each layer, the root mean square of gradients over that of the weights.

    Args:
        directions: (functions, N, classes); each gives the gradient of sum(directions * logits).
    """
    with torch.enable_grad(), parametrize.cached():  # a computed weight is then the same tensor here and in the network
        values = [getattr(weight.module, weight.attribute) for weight, _ in layers]
        logits = main_output(model(images))
        squares = torch.zeros(len(values))
        for direction in directions:
            gradients = torch.autograd.grad(logits, values, direction, retain_graph=True)
            squares += torch.stack([gradient.square().mean() for gradient in gradients]) / len(directions)
        sizes = torch.stack([value.detach().square().mean() for value in values])
    return (squares / sizes).sqrt()


def _rescale(layers: Layers, factors: Tensor) -> None:
    reached = torch.cumprod(factors, 0)
    for (weight, bias), factor, product in zip(layers, factors, reached, strict=True):
        weight.fill(getattr(weight.module, weight.attribute) * factor)
        if bias is not None:
            bias.fill(bias.tensor * product)
