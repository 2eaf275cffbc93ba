"""The parameters of a network, each with what it is; what initializers walk over.

A module with parameters of its own says what they are in class attributes, both optional:
`parameter_roles = {"class_token": Role.TOKEN}`, and `parameter_parts = {"weight": 3}` for a weight that holds several
matrices of equal size one below the other, such as query, key and value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from torch import Tensor, nn
from torch.nn.utils import parametrize

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMALIZATIONS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
)
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


class Role(StrEnum):
    """What a parameter is."""

    WEIGHT = "weight"  # of a convolution, a linear layer or a projection: (outputs, inputs, *kernel)
    BIAS = "bias"  # added to the output of such a layer
    GAIN = "gain"  # multiplies, as in a normalization or a layer scale
    SHIFT = "shift"  # added to normalized features
    TOKEN = "token"  # a learned token, such as a class token
    POSITION = "position"  # a positional embedding
    OTHER = "other"


@dataclass(frozen=True, eq=False)
class NamedParameter:
    """A parameter, or one matrix of a packed one.

    Args:
        name: as in `model.named_parameters()`; the matrices of a packed one are `name[0]`, `name[1]`, ...
        tensor: its values; `fill` sets them.
        module: the module that owns it, under the name `attribute`.
        rows: the part of the module's tensor that it is, along the first axis; None for all of it.
    """

    name: str
    role: Role
    tensor: Tensor
    module: nn.Module
    attribute: str
    rows: slice | None = None

    def fill(self, values: Tensor) -> None:
        """Sets the values in place; to be called without gradients."""
        if not parametrize.is_parametrized(self.module, self.attribute):
            self.tensor.copy_(values)
            return
        # Weight normalization computes the tensor, which cannot be filled but assigned.
        whole = getattr(self.module, self.attribute).clone()
        whole[self.rows or slice(None)] = values
        setattr(self.module, self.attribute, whole)


@dataclass(frozen=True, eq=False)
class Weight(NamedParameter):
    """A `NamedParameter` whose role is `Role.WEIGHT`.

    Args:
        fan_in: inputs of one output, over the kernel.
        fan_out: outputs of one input (of its group), over the kernel.
    """

    fan_in: int = 1
    fan_out: int = 1


def named_parameters(model: nn.Module) -> Iterator[NamedParameter]:
    """All parameters of a model, or of a part of it such as a residual branch, in the order of registration; shared ones once.

    A parametrized tensor is visited as the module's own (`affine.weight`), not as the parameters it is computed from.
    """
    modules = dict(model.named_modules())
    visited = ""
    for name, tensor in model.named_parameters():
        before, computed, after = f".{name}".partition(".parametrizations.")
        if computed:
            path, attribute = before[1:], after.partition(".")[0]
            name = f"{path}.{attribute}" if path else attribute
            if name == visited:  # another of the parameters that it is computed from
                continue
            visited, tensor = name, getattr(modules[path], attribute)
        else:
            path, _, attribute = name.rpartition(".")
        yield from _visited(name, tensor, modules[path], attribute)


def weights(model: nn.Module) -> Iterator[Weight]:
    """The weights among `named_parameters(model)`."""
    for parameter in named_parameters(model):
        if isinstance(parameter, Weight):
            yield parameter


def _visited(name: str, tensor: Tensor, module: nn.Module, attribute: str) -> Iterator[NamedParameter]:
    role, parts = _declared(type(module), attribute)  # type: ignore[arg-type]
    if role is not Role.WEIGHT:
        yield NamedParameter(name, role, tensor, module, attribute)
    elif parts == 1:
        yield Weight(name, role, tensor, module, attribute, None, *_fans(tensor, module))
    else:
        size = len(tensor) // parts
        for part in range(parts):
            rows = slice(part * size, (part + 1) * size)
            own = tensor[rows]
            yield Weight(f"{name}[{part}]", role, own, module, attribute, rows, *_fans(own, module))


@cache
def _declared(kind: type[nn.Module], attribute: str) -> tuple[Role, int]:
    """What a parameter of a class of modules is, and how many matrices it holds."""
    roles: dict[str, Role] = {}
    parts: dict[str, int] = {}
    if issubclass(kind, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)):
        roles = {"weight": Role.WEIGHT, "bias": Role.BIAS}
    elif issubclass(kind, NORMALIZATIONS):
        roles = {"weight": Role.GAIN, "bias": Role.SHIFT}
    elif issubclass(kind, nn.MultiheadAttention):
        tokens = dict.fromkeys(("bias_k", "bias_v"), Role.TOKEN)  # appended to the keys and values
        roles = {**dict.fromkeys(PROJECTIONS, Role.WEIGHT), "in_proj_bias": Role.BIAS, **tokens}
        parts = {"in_proj_weight": 3}
    roles |= getattr(kind, "parameter_roles", {})
    parts |= getattr(kind, "parameter_parts", {})
    return roles.get(attribute, Role.OTHER), parts.get(attribute, 1)


def _fans(weight: Tensor, module: nn.Module) -> tuple[int, int]:
    groups = module.groups if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) else 1
    first, second = weight.shape[:2]
    kernel = weight[0, 0].numel()
    if isinstance(module, TRANSPOSED):  # (inputs, outputs of a group, *kernel)
        return first // groups * kernel, second * kernel
    return second * kernel, first // groups * kernel
