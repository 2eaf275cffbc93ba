"""What a network has to look like for a scheme that not every network can have; all of it can be seen on the meta device."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils import parametrize

from models.checks import RefusedError
from models.initializers.parameters import CONVOLUTIONS, TRANSPOSED
from models.network import Network

AFFINE = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)


def check_chain(model: nn.Module, name: str) -> None:
    """Refuses a network whose layers do not follow one another without branches.

    Args:
        name: of the initialization.
    """
    for module in _links(model):
        if not isinstance(module, AFFINE) and any(parameter.ndim > 1 for parameter in module.parameters()):
            raise RefusedError(
                f"{name} needs a plain chain of layers, and {type(module).__name__} computes branches or paths; choose"
                " model=mlp, convnet, plain_cifar or vgg16, or another init, such as lsuv or kaiming"
            )


def check_lengths(model: nn.Module, name: str) -> None:
    """Refuses weight normalization for weights that become 0: a vector of length 0 has no direction."""
    if any(map(parametrize.is_parametrized, model.modules())):
        raise RefusedError(
            f"{name} sets weights to 0, which have no direction for weight normalization; choose norm=none or batch, or"
            " another init"
        )


def _links(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that are computed one after the other, as far as that can be told."""
    if type(module) is nn.Sequential or (type(module) is Network and not module.head_names):
        for child in module.children():
            yield from _links(child)
    else:
        yield module
