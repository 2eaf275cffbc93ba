"""Residual networks: He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385.

With them those that differ in numbers only: ResNeXt (Xie et al. 2017, arXiv:1611.05431), the wide bottleneck networks of
Zagoruyko and Komodakis 2016 (arXiv:1605.07146), SE-ResNet (Hu et al. 2018, arXiv:1709.01507) and stochastic depth (Huang et
al. 2016, arXiv:1603.09382).

Our deviations: the classifier's weights, too, are normal with variance 2 / fan-in; the stride of a bottleneck unit is in its 3x3
convolution by default, as in torchvision, and not in the first 1x1; a unit that stochastic depth leaves out of a step has
no gradient there, so that neither weight decay nor momentum moves it.

Equal to torchvision: resnet18/34/50/101/152, resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, wide_resnet101_2 by name, and
resnext152_32x4d and wrn_68_3 by its class. Equal to timm: se_resnet50 and se_resnext50_32x4d
(`seresnet50`, `seresnext50_32x4d`). Without an oracle: resnet20 to resnet1202, resnext29_8x64d and the networks
with stochastic depth.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from models import checks
from models.foreign import Table, by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers import units
from models.layers.activation import Activation, relu
from models.layers.norm import Norm, batch_norm
from models.layers.width import scaled
from models.network import Network


def resnet(
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
    groups: int = 1,
    width_per_group: int = 64,
    se_reduction: int | None = None,
    survival: float = 1.0,
    decay: units.Decay = "linear",
    stem: units.Stem = "imagenet",
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """The ImageNet networks of table 1: a stem, stages of residual units, a linear classifier.

    By default with batch normalization, ReLU and the Kaiming initialization.

    Args:
        blocks: units of each stage; each stage but the first doubles the channels and halves the image.
        unit: two 3x3 convolutions, or 1x1, 3x3 and 1x1.
        shortcut: where the shape changes: A zeros for the new channels, B a projection; C a projection in every unit.
        stride_in: which convolution of a bottleneck unit halves the map; None is the middle one.
        groups: of the 3x3 convolution of a bottleneck unit.
        width_per_group: channels of such a group in the first stage, which then doubles them.
        se_reduction: channels for each feature of a squeeze-and-excitation at the end of the branches; None for none.
        survival: probability with which the last unit is computed in a step of training; 1 is no stochastic depth.
        decay: whether the earlier units survive linearly more often, or all alike.
        dropout: probability with which an input of the classifier is set to 0 in training.
        width: factor of all channels.
    """
    units.check_blocks(blocks)
    units.check_common("resnet", image_size, len(blocks), stem, dropout)
    checks.positive("width", width)
    units.check_unit(unit, shortcut, stride_in)
    _check_bottleneck(unit, groups, width_per_group, se_reduction)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    style = units.Style(norm, activation, shortcut, stride_in or "middle", groups, width_per_group, se_reduction)
    first = scaled(64, width)
    channels = units.result_channels([scaled(64 * 2**stage, width) for stage in range(len(blocks))], unit)
    parts = OrderedDict[str, nn.Module](stem=units.stem(stem, in_channels, first, norm=norm, activation=activation))
    kind = partial(units.basic_unit if unit == "basic" else units.bottleneck_unit, style=style)
    parts |= units.stages(first, channels, blocks, kind, units.survivals(sum(blocks), survival, decay))
    parts |= units.head(channels[-1], num_classes, dropout)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def resnet_cifar(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    depth: int = 20,
    width: int = 16,
    shortcut: units.Shortcut = "A",
    survival: float = 1.0,
    decay: units.Decay = "linear",
    stem: units.Stem = "cifar",
    dropout: float = 0.0,
) -> Network:
    """The CIFAR-10 network of section 4.2: a 3x3 convolution, three stages of n residual blocks, a linear classifier.

    By default with batch normalization, ReLU and the Kaiming initialization.

    Args:
        depth: layers with weights, 6n + 2: two in each block, the first convolution and the classifier.
        width: channels of the first stage; each later stage doubles them and halves the image.
        shortcut: as for `resnet`; the paper's is A.
        survival: probability with which the last block is computed in a step of training; 1 is no stochastic depth.
        decay: whether the earlier blocks survive linearly more often, or all alike.
        dropout: probability with which an input of the classifier is set to 0 in training.
    """
    num_blocks = units.blocks_of_depth(depth)
    checks.at_least("width", width, 1)
    # The last stage works at a quarter of the size: below 8x8 its 3x3 kernels would see little but padding.
    units.check_common("resnet_cifar", image_size, 4, stem, dropout)
    checks.one_of("shortcut", shortcut, ("A", "B", "C"))
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    kind = partial(units.basic_unit, style=units.Style(norm, activation, shortcut))
    channels = [width * 2**stage for stage in range(3)]
    parts = OrderedDict[str, nn.Module](stem=units.stem(stem, in_channels, width, norm=norm, activation=activation))
    parts |= units.stages(width, channels, [num_blocks] * 3, kind, units.survivals(3 * num_blocks, survival, decay))
    parts |= units.head(channels[-1], num_classes, dropout)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def _check_bottleneck(unit: units.Unit, groups: int, width_per_group: int, se_reduction: int | None) -> None:
    checks.at_least("groups", groups, 1)
    checks.at_least("width_per_group", width_per_group, 1)
    if se_reduction is not None:
        checks.at_least("se_reduction", se_reduction, 1)
    if unit == "basic" and (groups, width_per_group) != (1, 64):
        raise checks.RefusedError(
            "groups and width_per_group need unit=bottleneck, whose 3x3 convolution has channels of its own; "
            f"got {groups} and {width_per_group}"
        )


def _torchvision(squeeze: str = "", stem: str = "", classifier: str = "fc") -> Table:
    return by_rules(
        (r"stem\.affine\.(.*)", rf"{stem}conv1.\1"),
        (r"stem\.norm\.(.*)", rf"{stem}bn1.\1"),
        (r"stage(\d+\.\d+)\.branch\.(\d)\.affine\.(.*)", lambda m: f"layer{m[1]}.conv{int(m[2]) + 1}.{m[3]}"),
        (r"stage(\d+\.\d+)\.branch\.(\d)\.norm\.(.*)", lambda m: f"layer{m[1]}.bn{int(m[2]) + 1}.{m[3]}"),
        (r"stage(\d+\.\d+)\.branch\.\d\.factors\.reduce\.(.*)", rf"layer\1.{squeeze}.fc1.\2"),
        (r"stage(\d+\.\d+)\.branch\.\d\.factors\.expand\.(.*)", rf"layer\1.{squeeze}.fc2.\2"),
        (r"stage(\d+\.\d+)\.shortcut\.affine\.(.*)", r"layer\1.downsample.0.\2"),
        (r"stage(\d+\.\d+)\.shortcut\.norm\.(.*)", r"layer\1.downsample.1.\2"),
        (r"classifier\.(.*)", rf"{classifier}.\1"),
    )


FOREIGN = {
    "resnet": {
        "torchvision": _torchvision(),
        "timm": _torchvision("se"),
        # legacy_seresnet50 and the like, which also pool differently: without padding, over what is left at the edge
        "timm_legacy": _torchvision("se_module", "layer0.", "last_linear"),
    }
}
