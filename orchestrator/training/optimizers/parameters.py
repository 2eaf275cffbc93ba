"""What an optimizer is told of each parameter, and parameter groups made from that.

An optimizer target that has an argument `named_params` is given a list of `NamedParameter`; one that has `params` is given the
parameters alone, in the same order. It may take either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

Role = Literal["weight", "bias", "norm", "other"]
Decay = Literal["all", "weights"]

NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class NamedParameter:
    """A parameter and where it stands in the network.

    Args:
        name: as in `named_parameters()`: "blocks.0.conv1.weight".
        module: the one that owns it; of a parametrized weight the layer whose weight it is.
        role: "norm": scale or shift of a normalization, or the lengths in weight normalization; "weight": any other with at
            least two dimensions; "bias": one called bias; "other": what is left, such as a learned temperature.
        layer: the place of its module among all that own parameters, from 0 at the input, in the order of registration.
        layers: how many modules own parameters; the classifier is `layer == layers - 1` in the networks of `models`.
    """

    name: str
    parameter: nn.Parameter
    module: nn.Module
    role: Role
    layer: int
    layers: int


def named_parameters(model: nn.Module) -> list[NamedParameter]:
    """The trainable parameters, shared ones once, in the order of `model.parameters()`."""
    owners = [module for module in model.modules() if _owns(module)]
    places = {id(module): place for place, module in enumerate(owners)}
    found = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            path, _, local = name.rpartition(".")
            role = role_of(model.get_submodule(path), local, parameter)
            module = model.get_submodule(f".{path}".partition(".parametrizations.")[0][1:])
            found.append(NamedParameter(name, parameter, module, role, places[id(module)], len(owners)))
    return found


def role_of(module: nn.Module, local_name: str, parameter: nn.Parameter) -> Role:
    """The role of the parameter that `module` calls `local_name`."""
    if isinstance(module, NORMS) or _lengths(module, local_name):
        return "norm"
    if parameter.ndim > 1:
        return "weight"
    return "bias" if "bias" in local_name else "other"


def _owns(module: nn.Module) -> bool:
    """Whether a module has parameters of its own, if only those that its weight is computed from."""
    if isinstance(module, ParametrizationList):
        return False
    return is_parametrized(module) or next(module.parameters(recurse=False), None) is not None


def _lengths(module: nn.Module, local_name: str) -> bool:
    """Whether a parameter holds one length for each output, from which weight normalization computes a weight."""
    if not isinstance(module, ParametrizationList) or local_name != "original0" or module.is_tensor:
        return False
    lengths, directions = module.original0, module.original1
    return isinstance(lengths, Tensor) and isinstance(directions, Tensor) and lengths.numel() == len(directions)


def decay_groups(named: Iterable[NamedParameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of which only weights decay: not biases, the scales of norms, or other vectors and scalars.

    Groups without parameters are left out.

    Source: He et al. 2019, Bag of tricks for image classification, arXiv:1812.01187, section 3.1.
    """
    named = list(named)
    groups = [
        {"params": [p.parameter for p in named if p.role == "weight"], "weight_decay": weight_decay},
        {"params": [p.parameter for p in named if p.role != "weight"], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def decaying(
    params: Iterable[nn.Parameter], named: Iterable[NamedParameter] | None, decay: Decay, weight_decay: float
) -> Iterable[nn.Parameter] | list[dict[str, Any]]:
    """All parameters in one group, or `decay_groups` of them.

    Args:
        decay: `all` of them decay, or `weights` alone.

    Raises:
        ValueError: `decay` is neither, or nothing is known of the parameters but themselves.
    """
    if decay not in get_args(Decay):
        raise ValueError(f"decay must be one of {', '.join(get_args(Decay))}, got {decay}")
    if decay == "all":
        return params
    if named is None:
        raise ValueError("decay=weights has to be told which parameters are weights (named_params)")
    return decay_groups(named, weight_decay)


def split_groups(optimizer: torch.optim.Optimizer, factors: Mapping[int, float]) -> None:
    """Gives parameters learning rates of their own, by groups that differ from those there are in nothing else.

    Args:
        factors: id of a parameter -> the factor of its group's learning rate; 1 where it is not named.

    Raises:
        ValueError: the optimizer has no learning rate, or knows one group alone.
    """
    if isinstance(optimizer, torch.optim.LBFGS) or any("lr" not in group for group in optimizer.param_groups):
        raise ValueError(
            f"{type(optimizer).__name__} has one learning rate for all parameters; set transfer.lr_factor=1"
        )
    groups = []
    for group in optimizer.param_groups:
        parts: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        # the largest first: the learning rate of the first group is the one that is reported
        groups += [{**group, "params": parts[f], "lr": group["lr"] * f} for f in sorted(parts, reverse=True)]
    optimizer.param_groups[:] = groups
