"""A network as named parts in the order of computation, which transfer, probes and auxiliary classifiers refer to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from models.outputs import Outputs

Auxiliary = Literal["none", "heads", "skip"]
"""What becomes of auxiliary classifiers: there are none; heads in training only; skip connections that stay.

`heads`: Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842, section 5. `skip` adds the logits of each head
to the main ones, in training and in evaluation, so that the gradient of the one loss takes the short way, too.
"""


class Network(nn.Module):
    """Parts applied one after the other, from images (N, C, H, W) to logits (N, num_classes) or `Outputs`.

    The last part is called `classifier`; the input of it are the features that a linear probe is trained on. Parts
    called `stage1`, `stage2`, ... and `fc6`, `fc7` are those whose output a probe may look at. A part may hand a tuple
    to the next, as the cells of NASNet do; its features are then the last element.

    Args:
        parts: name -> module, in the order of computation.
        heads: name of a part -> the auxiliary classifier of its features.
        skip: whether the logits of the heads are added to the main ones instead.

    Raises:
        ValueError: a head is at a part that is not there.
    """

    def __init__(
        self, parts: Mapping[str, nn.Module], *, heads: Mapping[str, nn.Module] | None = None, skip: bool = False
    ) -> None:
        super().__init__()
        if unknown := sorted((heads or {}).keys() - parts.keys()):
            raise ValueError(f"auxiliary heads at {', '.join(unknown)}; the parts are {', '.join(parts)}")
        for name, part in parts.items():
            self.add_module(name, part)
        self.parts = tuple(parts)
        if heads:
            self.heads = nn.ModuleDict(heads)
        self.head_names = frozenset(heads or ())
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor | Outputs:
        modules = self._modules
        if not self.head_names or not (self.training or self.skip):
            for name in self.parts:
                x = modules[name](x)  # type: ignore[misc]
            return x
        auxiliary = []
        for name in self.parts:
            x = modules[name](x)  # type: ignore[misc]
            if name in self.head_names:
                auxiliary.append(self.heads[name](features_of(x)))
        if not self.skip:
            return Outputs(x, tuple(auxiliary))
        for logits in auxiliary:
            x = x + logits
        return x


def features_of(x: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The features among what a part returns."""
    return x[-1] if isinstance(x, tuple) else x


def part_names(model: nn.Module) -> tuple[str, ...]:
    """The parts of a network in the order of computation; of a plain `nn.Sequential` its children."""
    return model.parts if isinstance(model, Network) else tuple(name for name, _ in model.named_children())


def after_part(model: nn.Module, images: Tensor, name: str) -> Tensor:
    """The features that part `name` returns, of maps the mean over all positions: (N, features).

    Raises:
        ValueError: no such part.
    """
    names = part_names(model)
    if name not in names:
        raise ValueError(f"the network has no part {name}; its parts are {', '.join(names)}")
    x = images
    for each in names[: names.index(name) + 1]:
        x = model.get_submodule(each)(x)
    found = features_of(x)
    return found.mean((2, 3)) if found.dim() == 4 else found
