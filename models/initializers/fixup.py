"""Fixup: residual networks without normalization whose steps are of a size, however many branches there are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import checks
from models.checks import RefusedError
from models.initializers.biases import Bias
from models.initializers.gain import Gain
from models.initializers.kaiming import kaiming
from models.initializers.parameters import Weight, weights
from models.initializers.scheme import Needing, Scheme
from models.initializers.structure import check_lengths
from models.layers.residual import Residual, residual_branches
from models.layers.squeeze_excite import SqueezeExcite


def fixup(*, scale: float = 1.0, gain: Gain = "relu", bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """Kaiming, but 0 for the classifier and the last layer of each residual branch, and smaller in the branches.

    With L branches of m layers each, the other layers of a branch are multiplied by L^(-1 / (2 m - 2)). It takes
    the place of normalization: norm=none.

    Args:
        scale: multiplies the standard deviation of all layers that are not 0.
        gain: of the units, as in `kaiming`.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Zhang et al. 2019, Fixup Initialization: Residual Learning Without Normalization, arXiv:1901.09321, section 3;
    our deviation: no multipliers and biases are added (rule 3), since these change the network: its layers have the biases
    that norm=none leaves them.
    """
    checks.positive("scale", scale)
    begin = kaiming(scale=scale, gain=gain, bias=bias, bias_value=bias_value)

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        begin(model, generator, images)
        branches = list(residual_branches(model))
        for layers in filter(None, map(layers_of, branches)):
            *others, last = layers
            for weight in others:
                weight.fill(weight.tensor * len(branches) ** (-1 / (2 * len(others))))
            last.fill(torch.zeros(()))
        *_, classifier = weights(getattr(model, "classifier", model))
        classifier.fill(torch.zeros(()))

    return Needing(check_branches, scheme)


def check_branches(model: nn.Module) -> None:
    """Refuses a network without residual branches."""
    if not any(isinstance(module, Residual) for module in model.modules()):
        raise RefusedError(
            "fixup needs residual branches, and this network has none; choose model=resnet_cifar, preact_cifar, wrn or"
            " residual_mlp, or another init, such as kaiming"
        )
    check_lengths(model, "fixup")


def layers_of(branch: nn.Module) -> list[Weight]:
    """The weights along a branch, without those that compute factors of its channels."""
    gates = {id(m) for module in branch.modules() if isinstance(module, SqueezeExcite) for m in module.modules()}
    return [weight for weight in weights(branch) if id(weight.module) not in gates]
