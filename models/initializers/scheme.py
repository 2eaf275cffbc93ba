"""What a scheme is, and how to write one that treats each weight by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.initializers.biases import Biases, biases
from models.initializers.draws import normal_values
from models.initializers.parameters import Role, Weight, named_parameters

Scheme = Callable[[nn.Module, torch.Generator, Tensor | None], None]
"""(model, generator, images) -> None: initializes the whole model in place, called without gradients.

It gets the whole model, whose parameters it walks over (`named_parameters`), so that it may look at the residual branches
(`models.layers.residual.residual_branches`), and a mini-batch of images where the caller has one.
"""

EMBEDDING_STD = 0.02
"""Of learned tokens and positional embeddings: Dosovitskiy et al. 2020, arXiv:2010.11929, and Devlin et al. 2018."""

ZERO_BIASES = biases()


@dataclass(frozen=True)
class Needing:
    """A scheme that not every network can have.

    Args:
        check: looks at the structure alone, so that a network on the meta device will do; raises `RefusedError`, which says
            what to choose instead.
    """

    check: Callable[[nn.Module], None]
    scheme: Scheme

    def __call__(self, model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        self.check(model)
        self.scheme(model, generator, images)


def by_weight(draw: Callable[[Weight, torch.Generator], Tensor], rule: Biases = ZERO_BIASES) -> Scheme:
    """A scheme that draws each weight of a convolution, linear layer or projection by itself.

    Biases follow `rule`, learned tokens and positional embeddings are normal with `EMBEDDING_STD`. Everything else stays as
    its module made it: gains and shifts of normalizations, slopes of activations, parameters of unknown modules.
    """

    def scheme(model: nn.Module, generator: torch.Generator, images: Tensor | None = None) -> None:
        for parameter in named_parameters(model):
            if isinstance(parameter, Weight):
                parameter.fill(draw(parameter, generator))
            elif parameter.role is Role.BIAS:
                parameter.fill(rule(parameter.tensor.shape, generator))
            elif parameter.role in (Role.TOKEN, Role.POSITION):
                parameter.fill(normal_values(parameter.tensor.shape, EMBEDDING_STD, generator))

    return scheme


def normal(std: Callable[[int, int], float], rule: Biases = ZERO_BIASES) -> Scheme:
    """Independent normal weights of mean 0, with a standard deviation computed from (fan-in, fan-out)."""
    return by_weight(
        lambda weight, generator: normal_values(weight.tensor.shape, std(weight.fan_in, weight.fan_out), generator),
        rule,
    )
