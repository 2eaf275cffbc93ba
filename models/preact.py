"""Pre-activation residual networks: He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv:1603.05027.

Our deviations: the classifier's weights, too, are normal with variance 2 / fan-in; the stride of a bottleneck unit is in its 3x3
convolution by default, as in the Torch version of the authors' code, and not in the first 1x1.

Equal to timm: preact_resnet18/34/50/101/152 with `activated_stem=False` (`resnetv2_18`, ...); preact_resnet200 by its class.
timm's classifier is a 1x1 convolution. Without an oracle: `preact_cifar`.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers import units
from models.layers.activation import Activation, relu
from models.layers.block import pre_activated
from models.layers.norm import Norm, batch_norm
from models.layers.place import Layout
from models.layers.preact_units import PreStyle, preact_unit
from models.layers.width import scaled
from models.network import Network


def preact_resnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    blocks: tuple[int, ...] = (2, 2, 2, 2),
    unit: units.Unit = "basic",
    shortcut: units.Shortcut = "B",
    stride_in: units.StrideIn | None = None,
    activated_stem: bool = True,
    survival: float = 1.0,
    decay: units.Decay = "linear",
    stem: units.Stem = "imagenet",
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """The ImageNet networks of section 4: `resnet` with the normalizations and activations before the convolutions.

    Args:
        blocks, unit, shortcut, stride_in, survival, decay, dropout, width: as for `models.resnet.resnet`.
        activated_stem: whether normalization and activation follow the stem's convolution, before its pooling and before
            the first unit splits (the paper's appendix); else they are the first unit's, after the pooling (timm).
    """
    units.check_blocks(blocks)
    units.check_common("preact_resnet", image_size, len(blocks), stem, dropout)
    checks.positive("width", width)
    units.check_unit(unit, shortcut, stride_in)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    style = PreStyle(norm, activation, shortcut, stride_in or "middle", activated_stem=activated_stem)
    channels = units.result_channels([scaled(64 * 2**stage, width) for stage in range(len(blocks))], unit)
    probabilities = units.survivals(sum(blocks), survival, decay)
    network = partial(preact_network, in_channels, scaled(64, width), channels, blocks, num_classes)
    return network(style, basic=unit == "basic", survivals=probabilities, stem=stem, dropout=dropout)


def preact_cifar(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    depth: int = 110,
    width: int = 16,
    unit: units.Unit = "basic",
    shortcut: units.Shortcut = "B",
    stride_in: units.StrideIn | None = None,
    survival: float = 1.0,
    decay: units.Decay = "linear",
    stem: units.Stem = "cifar",
    dropout: float = 0.0,
) -> Network:
    """The CIFAR networks of section 4: a 3x3 convolution, three stages of n units, a linear classifier.

    Args:
        depth: layers with weights: 6n + 2 for basic units, 9n + 2 for bottleneck units, but for projections.
        width: channels of the first stage, with bottleneck units those of its 3x3 convolutions; later stages double them.
        unit, shortcut, stride_in, survival, decay, dropout: as for `models.resnet.resnet`.
    """
    units.check_unit(unit, shortcut, stride_in)
    num_blocks = units.blocks_of_depth(depth, layers=6 if unit == "basic" else 9)
    checks.at_least("width", width, 1)
    units.check_common("preact_cifar", image_size, 4, stem, dropout)  # as resnet_cifar
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    style = PreStyle(norm, activation, shortcut, stride_in or "middle")
    channels = units.result_channels([width * 2**stage for stage in range(3)], unit)
    probabilities = units.survivals(3 * num_blocks, survival, decay)
    network = partial(preact_network, in_channels, width, channels, [num_blocks] * 3, num_classes)
    return network(style, basic=unit == "basic", survivals=probabilities, stem=stem, dropout=dropout)


def preact_network(
    in_channels: int,
    stem_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    num_classes: int,
    style: PreStyle,
    *,
    basic: bool,
    survivals: Sequence[float],
    stem: units.Stem,
    dropout: float,
) -> Network:
    """Stem, stages, one more normalization and activation, classifier; initialized by `kaiming`."""
    norm, activation = style.norm, style.activation
    first = units.stem(
        stem, in_channels, stem_channels, norm=norm, activation=activation, activated=style.activated_stem
    )
    parts = OrderedDict[str, nn.Module](stem=first)
    parts |= units.stages(stem_channels, channels, blocks, partial(preact_unit, style=style, basic=basic), survivals)
    parts["activated"] = pre_activated(channels[-1], Layout.MAPS, norm=norm, activation=activation)
    parts |= units.head(channels[-1], num_classes, dropout)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


UNIT = r"stage(\d+)\.(\d+)\.(?:residual\.)?"


"""With a projection the unit's sum is in `residual`, behind the normalization and activation that both sides begin with."""


def _timm(part: str) -> Callable[[re.Match[str]], str]:
    """The name in timm of what is in the unit (stages count from 0): `part` may add to the number of the convolution."""

    def name(match: re.Match[str]) -> str:
        stage, block, *rest = match.groups()
        number = int(rest[0]) + (part == "norm") if len(rest) == 2 else 1
        return f"stages.{int(stage) - 1}.blocks.{block}.{part}{number}.{rest[-1]}"

    return name


FOREIGN = {
    "preact_resnet": {
        "timm": by_rules(
            (r"stem\.affine\.(.*)", r"stem.conv.\1"),
            (UNIT + r"(?:branch\.)?pre\.norm\.(.*)", _timm("norm")),
            (UNIT + r"branch\.conv(\d)\.norm\.(.*)", _timm("norm")),
            (UNIT + r"branch\.conv(\d)\.(?:affine\.)?(.*)", _timm("conv")),
            (
                UNIT + r"shortcut\.(.*)",
                lambda m: f"stages.{int(m[1]) - 1}.blocks.{m[2]}.downsample.conv.{m[3]}",
            ),
            (r"activated\.norm\.(.*)", r"norm.\1"),
            (r"classifier\.(.*)", r"head.fc.\1"),
        )
    }
}
