"""Plain networks: the stacks of residual networks without the skip, He et al. 2015, arXiv:1512.03385, sections 3.3 and 4.2.

What residual networks are compared with. Our deviation: the classifier's weights, too, are normal with variance 2 / fan-in.

No other library has them; without its shortcuts, torchvision's resnet18 and resnet34 are the same layers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from models import checks
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers import units
from models.layers.activation import Activation, relu
from models.layers.auxiliary import auxiliary_head
from models.layers.block import conv_block
from models.layers.norm import Norm, batch_norm
from models.layers.width import scaled
from models.network import Auxiliary, Network

_none = checks.takes_no(
    shortcut="a plain network has none",
    survival="without shortcuts nothing can be left out",
    decay="it has no survival",
)


@_none
def plain(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    blocks: tuple[int, ...] = (2, 2, 2, 2),
    stem: units.Stem = "imagenet",
    dropout: float = 0.0,
    width: float = 1.0,
    aux: Auxiliary = "none",
    aux_dropout: float = 0.7,
) -> Network:
    """The plain network of figure 3: `resnet` of basic units without their shortcuts.

    Args:
        blocks: pairs of 3x3 convolutions in each stage.
        dropout: probability with which an input of the classifier is set to 0 in training.
        width: factor of all channels.
        aux: what becomes of auxiliary classifiers after the two stages before the last.
        aux_dropout: of the inputs of their last layer.
    """
    units.check_blocks(blocks)
    units.check_common("plain", image_size, len(blocks), stem, dropout)
    checks.positive("width", width)
    channels = [scaled(64 * 2**stage, width) for stage in range(len(blocks))]
    heads = _Heads(aux, aux_dropout, image_size)
    return _network(in_channels, channels, blocks, num_classes, norm, activation, stem, dropout, heads)


@_none
def plain_cifar(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    depth: int = 20,
    width: int = 16,
    stem: units.Stem = "cifar",
    dropout: float = 0.0,
    aux: Auxiliary = "none",
    aux_dropout: float = 0.7,
) -> Network:
    """The plain CIFAR-10 network of section 4.2: `resnet_cifar` without its shortcuts.

    Args:
        depth: layers with weights, 6n + 2.
        width: channels of the first stage; each later stage doubles them and halves the image.
        dropout: probability with which an input of the classifier is set to 0 in training.
        aux: what becomes of auxiliary classifiers after the two stages before the last.
        aux_dropout: of the inputs of their last layer.
    """
    num_blocks = units.blocks_of_depth(depth)
    checks.at_least("width", width, 1)
    units.check_common("plain_cifar", image_size, 4, stem, dropout)  # as resnet_cifar
    channels = [width * 2**stage for stage in range(3)]
    heads = _Heads(aux, aux_dropout, image_size)
    return _network(in_channels, channels, [num_blocks] * 3, num_classes, norm, activation, stem, dropout, heads)


@dataclass(frozen=True)
class _Heads:
    """Auxiliary classifiers whose sizes are to the channels of the last stage as in GoogLeNet: 128 and 1024 to 1024."""

    aux: Auxiliary
    dropout: float
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        checks.one_of("aux", self.aux, ("none", "heads", "skip"))
        checks.probability("aux_dropout", self.dropout)

    def build(
        self, channels: Sequence[int], num_classes: int, stem: units.Stem, norm: Norm, activation: Activation
    ) -> dict[str, nn.Module]:
        if self.aux == "none":
            return {}
        if len(channels) < 2:
            raise checks.RefusedError(f"aux={self.aux} needs a stage before the last, and there is only one")
        heads: dict[str, nn.Module] = {}
        for stage in range(max(1, len(channels) - 2), len(channels)):
            stride = 2 ** (stage - 1) * (4 if stem == "imagenet" else 1)
            height, width = (-(-length // stride) for length in self.image_size)
            heads[f"stage{stage}"] = auxiliary_head(
                channels[stage - 1],
                num_classes,
                (height, width),
                norm=norm,
                activation=activation,
                dropout=self.dropout,
                width=channels[-1] / 1024,
            )
        return heads


def _network(
    in_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    num_classes: int,
    norm: Norm | None,
    activation: Activation | None,
    stem: units.Stem,
    dropout: float,
    auxiliary: _Heads,
) -> Network:
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation
    first = channels[0]
    parts = OrderedDict[str, nn.Module](stem=units.stem(stem, in_channels, first, norm=norm, activation=activation))
    parts |= units.stages(first, channels, blocks, partial(_unit, norm=norm, activation=activation))
    parts |= units.head(channels[-1], num_classes, dropout)
    heads = auxiliary.build(channels, num_classes, stem, norm, activation)
    model = Network(parts, heads=heads, skip=auxiliary.aux == "skip")
    initialize(model, kaiming(), torch.default_generator)
    return model


def _unit(slot: units.Slot, *, norm: Norm, activation: Activation) -> nn.Sequential:
    return nn.Sequential(
        conv_block(slot.in_channels, slot.out_channels, 3, stride=slot.stride, norm=norm, activation=activation),
        conv_block(slot.out_channels, slot.out_channels, 3, norm=norm, activation=activation),
    )
