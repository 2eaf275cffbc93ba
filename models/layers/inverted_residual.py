"""The inverted residual of the MobileNets and EfficientNets: expand, convolve each channel by itself, project linearly.

Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381, figure 3; with squeeze and
excitation before the projection Howard et al. 2019, arXiv:1905.02244, figure 4.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator

from torch import nn

from models.foreign import Replacement
from models.layers.activation import Activation
from models.layers.block import conv_block
from models.layers.drop_path import DropPath
from models.layers.norm import Norm
from models.layers.residual import Residual, join


def inverted_residual(
    in_channels: int,
    expanded: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int,
    norm: Norm,
    activation: Activation,
    squeeze: nn.Module | None = None,
    drop_prob: float = 0.0,
) -> nn.Module:
    """The unit; a `Residual` where input and output have the same shape, else its branch alone.

    Args:
        expanded: channels of the depthwise convolution; the 1x1 convolution to them is left out where they are the input's.
        squeeze: squeeze and excitation of the expanded maps.
        drop_prob: of drop-path; without effect where there is no shortcut.
    """
    residual = stride == 1 and in_channels == out_channels
    layers = OrderedDict[str, nn.Module]()
    if expanded != in_channels:
        layers["expand"] = conv_block(in_channels, expanded, 1, norm=norm, activation=activation)
    layers["depthwise"] = conv_block(
        expanded, expanded, kernel_size, stride=stride, groups=expanded, norm=norm, activation=activation
    )
    if squeeze is not None:
        layers["squeeze"] = squeeze
    layers["project"] = conv_block(expanded, out_channels, 1, norm=norm, activation=None, ends_branch=residual)
    if not residual:
        return nn.Sequential(layers)
    if drop_prob:
        layers["drop_path"] = DropPath(drop_prob)
    return join(nn.Sequential(layers), nn.Identity(), out_channels, norm=norm, activation=None)


def torchvision_rules(
    model: nn.Module, layers: str, *, in_stages: bool = False, bare_projection: bool = False
) -> Iterator[tuple[str, Replacement]]:
    """The rules of `models.foreign.by_rules` for a network of these units, up to the convolution `head` after them.

    Args:
        layers: what torchvision calls the list of a unit's layers.
        in_stages: whether it numbers the units by stage, instead of through the network.
        bare_projection: whether convolution and norm of the projection are two members of that list.
    """
    stages = [list(module.children()) for name, module in model.named_children() if re.fullmatch(r"stage\d+", name)]
    number = 1
    for stage, units in enumerate(stages, start=1):
        for unit, module in enumerate(units):
            theirs = f"features.{stage}.{unit}.{layers}" if in_stages else f"features.{number}.{layers}"
            yield from _unit_rules(f"stage{stage}.{unit}", module, theirs, bare_projection=bare_projection)
            number += 1
    for part, index in (("stem", 0), ("head", len(stages) + 1 if in_stages else number)):
        yield rf"{part}\.affine\.(.*)", rf"features.{index}.0.\1"
        yield rf"{part}\.norm\.(.*)", rf"features.{index}.1.\1"


def _unit_rules(
    ours: str, module: nn.Module, theirs: str, *, bare_projection: bool
) -> Iterator[tuple[str, Replacement]]:
    if isinstance(module, Residual):
        ours, module = f"{ours}.branch", module.branch
    for index, (name, _) in enumerate(module.named_children()):
        bare = bare_projection and name == "project"
        conv, norm = (f"{index}", f"{index + 1}") if bare else (f"{index}.0", f"{index}.1")
        start = re.escape(f"{ours}.{name}.")
        yield start + r"affine\.(.*)", rf"{theirs}.{conv}.\1"
        yield start + r"norm\.(.*)", rf"{theirs}.{norm}.\1"
        yield start + r"factors\.reduce\.(.*)", rf"{theirs}.{index}.fc1.\1"
        yield start + r"factors\.expand\.(.*)", rf"{theirs}.{index}.fc2.\1"
