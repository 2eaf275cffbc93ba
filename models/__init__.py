"""Every architecture by its name: `create("mlp", num_classes=10, in_channels=1, image_size=(8, 8), hidden=3)`."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from models.layers.activation import Activation
    from models.layers.norm import Norm

CATALOGUE = {
    "linear": "models.mlp:linear",
    "mlp": "models.mlp:mlp",
    "convnet": "models.convnet:convnet",
    "resnet_cifar": "models.resnet:resnet_cifar",
}
"""Name -> `module:function`; a family is imported when one of its names is first asked for."""


def create(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    **own: Any,
) -> nn.Module:
    """The network `name`, from images (N, in_channels, height, width) to logits (N, num_classes).

    Args:
        image_size: (height, width).
        norm: None is the architecture's own, `no_norm()` is none at all.
        activation: None is the architecture's own.
        own: the family's own arguments, such as `depth` or `width`.

    Raises:
        ValueError: no such name, a setting outside its range, or images too small for the architecture.
    """
    if name not in CATALOGUE:
        nearest = get_close_matches(name, CATALOGUE, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(CATALOGUE))}"
        raise ValueError(f"no model is called {name!r}; {hint}")
    module, function = CATALOGUE[name].split(":")
    family = getattr(import_module(module), function)
    model: nn.Module = family(
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        norm=norm,
        activation=activation,
        **own,
    )
    return model
