"""DenseNets: Huang et al. 2017, Densely Connected Convolutional Networks, arXiv:1608.06993.

Each layer of a dense block gets the maps of all layers before it, concatenated, and adds `growth` maps of its own. Its order
is normalization, activation, convolution. The compression theta is a factor of at most 1: 0.5 halves the maps between blocks.

Our deviations: none in the networks. torchvision's dropout follows the last convolution of each dense layer alone; ours is
the paper's. `densenet_cifar` has no counterpart in torchvision or timm.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import conv_block, pre_activated, pre_conv_block, unread_conv
from models.layers.norm import Norm, batch_norm
from models.layers.place import Layout
from models.layers.width import scaled
from models.network import Network

BOTTLENECK = 4  # times the growth rate: maps between the two convolutions of a bottleneck layer


class DenseBlock(nn.Module):
    """Dense layers: (N, C, H, W) -> (N, C + layers * growth, H, W), of an activation of pieces as many times that.

    The maps are joined once a layer, to what the layers before were given: the gradient then comes back through one sum a
    layer, and not through one for each pair of layers.
    """

    def __init__(self, layers: Sequence[nn.Module], pieces: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self._joined(x, layer(x))
        return x

    def _joined(self, x: Tensor, new: Tensor) -> Tensor:
        if self.pieces == 1:
            return torch.cat((x, new), 1)
        by_piece = [maps.reshape(len(maps), self.pieces, -1, *maps.shape[2:]) for maps in (x, new)]
        return torch.cat(by_piece, 2).flatten(1, 2)


def densenet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    blocks: tuple[int, ...] = (6, 12, 24, 16),
    growth: int = 32,
    compression: float = 0.5,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """The networks of table 1, with bottleneck layers; by default with batch normalization and ReLU.

    Args:
        blocks: layers of each dense block; every layer has two convolutions.
        growth: maps that a layer adds (k).
        compression: of the maps between two blocks (theta), in (0, 1].
        stem: 7x7 with stride 2 and pooling, or 3x3 with stride 1 for small images; 2k maps.
        dropout: probability with which a value is set to 0 in training, after every convolution but the first.
        width: multiplies the growth rate, and so all channels.
    """
    checks.at_least("blocks", len(blocks), 1)
    for layers in blocks:
        checks.at_least("each of blocks", layers, 1)
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    checks.image_at_least(f"densenet with the {stem} stem", image_size, _minimum(len(blocks), stem))
    growth = _growth(growth, width)
    _check(compression, dropout)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    channels = 2 * growth
    first = _stem(in_channels, channels, stem, norm, activation)
    body = _Body(norm, activation, growth, compression, dropout, bottleneck=True)
    return _network(first, channels, blocks, body, num_classes)


@checks.takes_no(stem="it begins with a 3x3 convolution")
def densenet_cifar(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    depth: int = 40,
    growth: int = 12,
    bottleneck: bool = False,
    compression: float = 1.0,
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """The networks for CIFAR and SVHN of table 2: three dense blocks of n layers each.

    Args:
        depth: layers with weights (L), 3n + 4, with bottleneck 6n + 4.
        growth: maps that a layer adds (k).
        bottleneck: a 1x1 convolution to 4k maps before each 3x3.
        compression: of the maps between two blocks (theta), in (0, 1]; 0.5 and bottleneck are the paper's BC, which begins
            with 2k maps instead of 16.
        dropout: probability with which a value is set to 0 in training, after every convolution but the first; the paper
            has 0.2 without augmentation.
        width: multiplies the growth rate and the maps of the first convolution.
    """
    layers = layers_of_depth(depth, bottleneck=bottleneck)
    # Two poolings halve the image; below 4x4 the last leaves nothing.
    checks.image_at_least("densenet_cifar", image_size, 4)
    growth = _growth(growth, width)
    _check(compression, dropout)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    channels = 2 * growth if bottleneck and compression < 1 else scaled(16, width)
    first = unread_conv(in_channels, channels, 3, norm=norm, activation=activation)
    body = _Body(norm, activation, growth, compression, dropout, bottleneck=bottleneck)
    return _network(first, channels, (layers,) * 3, body, num_classes)


def layers_of_depth(depth: int, *, bottleneck: bool) -> int:
    """The layers of each of three dense blocks when the network has `depth` layers with weights.

    Beside them there are the first convolution, two transitions and the classifier.

    Raises:
        ValueError: no number of layers gives the depth; the nearest depths that have one are named.
    """
    step = 6 if bottleneck else 3
    if depth >= step + 4 and (depth - 4) % step == 0:
        return (depth - 4) // step
    below = (depth - 4) // step * step + 4
    nearest = f"{below} and {below + step}" if below > 4 else f"{step + 4}"
    form = f"{step}n+4 {'with' if bottleneck else 'without'} bottleneck"
    raise ValueError(f"depth must be {form} ({step + 4}, {2 * step + 4}, ...), got {depth}; nearest: {nearest}")


@dataclass(frozen=True)
class _Body:
    """How layers and transitions are built."""

    norm: Norm
    activation: Activation
    growth: int
    compression: float
    dropout: float
    bottleneck: bool

    def conv(self, in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
        block = pre_conv_block(in_channels, out_channels, kernel_size, norm=self.norm, activation=self.activation)
        if self.dropout:
            block.add_module("dropout", nn.Dropout(self.dropout))
        return block

    def layer(self, channels: int) -> nn.Module:
        """(N, channels, H, W) -> (N, growth, H, W)."""
        if not self.bottleneck:
            return nn.Sequential(OrderedDict(conv=self.conv(channels, self.growth, 3)))
        narrow = BOTTLENECK * self.growth
        return nn.Sequential(
            OrderedDict(bottleneck=self.conv(channels, narrow, 1), conv=self.conv(narrow, self.growth, 3))
        )

    def transition(self, channels: int, out_channels: int) -> nn.Module:
        """Fewer maps of half the height and width."""
        return nn.Sequential(OrderedDict(conv=self.conv(channels, out_channels, 1), pool=nn.AvgPool2d(2)))


def _network(stem: nn.Module, channels: int, blocks: Sequence[int], body: _Body, num_classes: int) -> Network:
    parts = OrderedDict[str, nn.Module](stem=stem)
    for block, layers in enumerate(blocks, start=1):
        dense = [body.layer(channels + layer * body.growth) for layer in range(layers)]
        parts[f"stage{block}"] = DenseBlock(dense, body.activation.pieces)
        channels += layers * body.growth
        if block < len(blocks):
            compressed = max(1, int(channels * body.compression))
            parts[f"transition{block}"] = body.transition(channels, compressed)
            channels = compressed
    parts["end"] = pre_activated(channels, Layout.MAPS, norm=body.norm, activation=body.activation)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": nn.Linear(channels, num_classes)}
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def _stem(in_channels: int, channels: int, stem: str, norm: Norm, activation: Activation) -> nn.Module:
    """The first convolution; its maps, too, carry the pieces of the activation that reads them."""
    carried = channels * activation.pieces
    if stem == "cifar":
        return conv_block(in_channels, carried, 3, norm=norm, activation=activation)
    conv = conv_block(in_channels, carried, 7, stride=2, norm=norm, activation=activation)
    return nn.Sequential(OrderedDict(conv=conv, pool=nn.MaxPool2d(3, stride=2, padding=1)))


def _minimum(blocks: int, stem: str) -> int:
    """Each transition halves the maps, rounded down; the stem for ImageNet halves them twice before, rounded up."""
    last: int = 2 ** (blocks - 1)
    return last if stem == "cifar" else 4 * last - 3


def _growth(growth: int, width: float) -> int:
    checks.at_least("growth", growth, 1)
    checks.positive("width", width)
    return scaled(growth, width)


def _check(compression: float, dropout: float) -> None:
    if not 0 < compression <= 1:
        raise ValueError(f"compression must be in (0, 1], got {compression}")
    checks.probability("dropout", dropout)


def _layer_name(match: re.Match[str]) -> str:
    """stage1.layers.0.bottleneck.affine.weight -> features.denseblock1.denselayer1.conv1.weight."""
    block, layer, which, kind, rest = match.groups()
    number = 1 if which == "bottleneck" else 2
    name = "conv" if kind == "affine" else "norm"
    return f"features.denseblock{block}.denselayer{int(layer) + 1}.{name}{number}.{rest}"


FOREIGN = {
    "densenet": {
        "torchvision": by_rules(
            (r"stem\.(?:conv\.)?affine\.(.*)", r"features.conv0.\1"),
            (r"stem\.(?:conv\.)?norm\.(.*)", r"features.norm0.\1"),
            (r"stage(\d+)\.layers\.(\d+)\.(bottleneck|conv)\.(affine|norm)\.(.*)", _layer_name),
            (r"transition(\d+)\.conv\.affine\.(.*)", r"features.transition\1.conv.\2"),
            (r"transition(\d+)\.conv\.norm\.(.*)", r"features.transition\1.norm.\2"),
            (r"end\.norm\.(.*)", r"features.norm5.\1"),
        )
    }
}
