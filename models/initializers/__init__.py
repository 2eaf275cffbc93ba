"""Weight initializations, applied to a built network: `initialize(model, kaiming(scale=0.5), generator)`.

One scheme a file; its function is the target of a file in conf/init.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.initializers.parameters import NamedParameter, Role, Weight, named_parameters, weights
from models.initializers.scheme import Needing, Scheme

__all__ = ["NamedParameter", "Needing", "Role", "Scheme", "Weight", "initialize", "named_parameters", "weights"]


def initialize(
    model: nn.Module, scheme: Scheme | None, generator: torch.Generator, images: Tensor | None = None
) -> None:
    """Draws the weights of `model` anew, in place: the same for the same state of `generator`, on any device.

    Args:
        scheme: None leaves the architecture's own initialization.
        images: a mini-batch as the network will see it, for the schemes that look at data.

    Raises:
        RefusedError: the scheme needs another structure; so it is on the meta device, where nothing else is done.
        ValueError: the scheme looks at images, and there are none.
    """
    if isinstance(scheme, Needing):
        scheme.check(model)
    if scheme is None or any(parameter.is_meta for parameter in model.parameters()):
        return
    with torch.no_grad():
        scheme(model, generator, images)
