"""GoogLeNet: Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842; `googlenet_bn` is torchvision's form of it.

Our deviations: the initialization (Kaiming), which the paper does not state; a stem for small images; local response
normalization with AlexNet's constants, since the paper names none.
torchvision's form has batch normalization, 3x3 kernels in place of the 5x5 ones, a last pooling of 2x2 positions, and
auxiliary classifiers that average over 4x4 cells.
`googlenet` has no counterpart in torchvision or timm; its tests are its table of sizes and its parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.auxiliary import auxiliary_head
from models.layers.block import conv_block
from models.layers.branches import Branches, Builder, Convolution, Fork, Pool
from models.layers.norm import Norm, batch_norm, layerless, local_response_norm, no_norm
from models.layers.place import Layout, Place, Position
from models.layers.width import scaled
from models.network import Auxiliary, Network

Stem = Literal["imagenet", "cifar"]


class Sizes(NamedTuple):
    """Channels of an inception module, in the order of the paper's table 1."""

    one: int
    three_reduced: int
    three: int
    five_reduced: int
    five: int
    pooled: int


STAGES: tuple[dict[str, Sizes], ...] = (
    {"3a": Sizes(64, 96, 128, 16, 32, 32), "3b": Sizes(128, 128, 192, 32, 96, 64)},
    {"4a": Sizes(192, 96, 208, 16, 48, 64)},
    {
        "4b": Sizes(160, 112, 224, 24, 64, 64),
        "4c": Sizes(128, 128, 256, 24, 64, 64),
        "4d": Sizes(112, 144, 288, 32, 64, 64),
    },
    {"4e": Sizes(256, 160, 320, 32, 128, 128)},
    {"5a": Sizes(256, 160, 320, 32, 128, 128), "5b": Sizes(384, 192, 384, 48, 128, 128)},
)
"""The paper's stages 3, 4 and 5; the fourth is cut after 4a and 4d, where the auxiliary classifiers are."""


def googlenet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.4,
    width: float = 1.0,
    aux: Auxiliary = "heads",
    aux_dropout: float = 0.7,
    naive: bool = False,
) -> Network:
    """The network of table 1, with auxiliary classifiers after 4a and 4d.

    Its own normalization is that of local responses, at the two places of figure 3. A normalization that follows the
    activation, as this one does, stands there alone; any other stands in every block.

    Args:
        stem: `cifar` is a 3x3 convolution of stride 1 in place of the 7x7 one, and no pooling before 3a.
        dropout: of the classifier's input.
        aux: what becomes of the auxiliary classifiers.
        aux_dropout: of the inputs of their classifiers.
        naive: the module of figure 2a: no 1x1 convolutions before the others, nor after the pooling.
    """
    norm = local_response_norm() if norm is None else norm
    form = _Form(norm, relu() if activation is None else activation, width, naive=naive)
    return _network(
        "googlenet", form, num_classes, in_channels, image_size, stem, dropout=dropout, aux=aux, aux_dropout=aux_dropout
    )


def googlenet_bn(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.2,
    width: float = 1.0,
    aux: Auxiliary = "heads",
    aux_dropout: float = 0.7,
) -> Network:
    """torchvision's `googlenet`. Its own normalization is batch normalization with an eps of 1e-3.

    The arguments are those of `googlenet`.
    """
    norm = batch_norm(eps=1e-3) if norm is None else norm
    form = _Form(norm, relu() if activation is None else activation, width, large_kernel=3, last_pool=2, grid=4)
    return _network(
        "googlenet_bn",
        form,
        num_classes,
        in_channels,
        image_size,
        stem,
        dropout=dropout,
        aux=aux,
        aux_dropout=aux_dropout,
    )


def inception_module(
    in_channels: int,
    sizes: Sizes,
    *,
    naive: bool = False,
    large_kernel: int = 5,
    norm: Norm,
    activation: Activation,
    width: float = 1.0,
) -> tuple[Branches, int]:
    """The module of figure 2, and the number of its output channels: 1x1, 3x3, 5x5 and pooling side by side.

    Args:
        naive: figure 2a, where all branches read the whole input; the reduced sizes and the pooled one have no meaning then.
    """
    large, pool = Convolution(sizes.five, large_kernel), Pool("max")
    if naive:
        fork = Fork((Convolution(sizes.one),), (Convolution(sizes.three, 3),), (large,), (pool,))
    else:
        fork = Fork(
            (Convolution(sizes.one),),
            (Convolution(sizes.three_reduced), Convolution(sizes.three, 3)),
            (Convolution(sizes.five_reduced), large),
            (pool, Convolution(sizes.pooled)),
        )
    return Builder(norm, activation, width).fork(in_channels, fork)


def inception_module_example(*, naive: bool) -> Branches:
    """The lectures' example of a module: 28x28x256 to 28x28x672 where naive, otherwise to 28x28x480.

    It is no layer of GoogLeNet, whose 3b has the same outputs but other reduced sizes.
    """
    sizes = Sizes(128, 64, 192, 64, 96, 64)
    return inception_module(256, sizes, naive=naive, norm=no_norm(), activation=relu())[0]


@dataclass(frozen=True)
class _Form:
    """What tells the paper's network from torchvision's, and the choices that all of its layers share."""

    norm: Norm
    activation: Activation
    width: float
    naive: bool = False
    large_kernel: int = 5
    last_pool: int = 3
    grid: int | None = None

    def __post_init__(self) -> None:
        checks.positive("width", self.width)

    @property
    def norm_of_blocks(self) -> Norm:
        return layerless(self.norm) if self.norm.after_activation else self.norm

    def between(self, num_features: int) -> dict[str, nn.Module]:
        """The normalization of the stem's maps, where the blocks have none."""
        if not self.norm.after_activation:
            return {}
        return {"norm": self.norm.layer(num_features, Place(Layout.MAPS, Position.AFTER_ACTIVATION))}


def _network(
    name: str,
    form: _Form,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    stem: Stem,
    *,
    dropout: float,
    aux: Auxiliary,
    aux_dropout: float,
) -> Network:
    _check(name, form, image_size, stem, dropout, aux, aux_dropout)
    parts = OrderedDict[str, nn.Module](stem=_stem(form, in_channels, stem))
    channels = scaled(192, form.width)
    heads = OrderedDict[str, nn.Module]()
    for number, modules in enumerate(STAGES, start=1):
        part = f"stage{number}"
        parts[part], channels = _stage(form, channels, modules)
        if aux != "none" and part in ("stage2", "stage3"):
            heads[part] = auxiliary_head(
                channels,
                num_classes,
                _size_of_4a(image_size, stem),
                norm=form.norm_of_blocks,
                activation=form.activation,
                grid=form.grid,
                dropout=aux_dropout,
                width=form.width,
            )
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(channels, num_classes)
    model = Network(parts, heads=heads, skip=aux == "skip")
    initialize(model, kaiming(), torch.default_generator)
    return model


def _check(
    name: str, form: _Form, image_size: tuple[int, int], stem: Stem, dropout: float, aux: Auxiliary, aux_dropout: float
) -> None:
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    # The last pooling needs as many positions as 2, a window that reaches beyond the border; those before it halve the size.
    last = 2 if form.last_pool == 3 else 1
    checks.image_at_least(f"{name} with stem={stem}", image_size, 2 * last if stem == "cifar" else 16 * last - 1)
    checks.probability("dropout", dropout)
    checks.one_of("aux", aux, ("none", "heads", "skip"))
    checks.probability("aux_dropout", aux_dropout)


def _stem(form: _Form, in_channels: int, stem: Stem) -> nn.Sequential:
    first, second = scaled(64, form.width), scaled(192, form.width)
    block = partial(conv_block, norm=form.norm_of_blocks, activation=form.activation)
    layers = OrderedDict[str, nn.Module]()
    if stem == "imagenet":
        layers["conv1"] = block(in_channels, first, 7, stride=2)
        layers["pool1"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    else:
        layers["conv1"] = block(in_channels, first, 3)
    layers |= {f"{name}1": layer for name, layer in form.between(first).items()}
    layers["conv2"] = block(first, first, 1)
    layers["conv3"] = block(first, second, 3)
    layers |= {f"{name}2": layer for name, layer in form.between(second).items()}
    if stem == "imagenet":
        layers["pool2"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return nn.Sequential(layers)


def _stage(form: _Form, channels: int, modules: dict[str, Sizes]) -> tuple[nn.Sequential, int]:
    layers = OrderedDict[str, nn.Module]()
    if "4a" in modules:
        layers["pool3"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    if "5a" in modules:
        layers["pool4"] = nn.MaxPool2d(form.last_pool, stride=2, ceil_mode=True)
    for name, sizes in modules.items():
        layers[f"inception{name}"], channels = inception_module(
            channels,
            sizes,
            naive=form.naive,
            large_kernel=form.large_kernel,
            norm=form.norm_of_blocks,
            activation=form.activation,
            width=form.width,
        )
    return nn.Sequential(layers), channels


def _size_of_4a(image_size: tuple[int, int], stem: Stem) -> tuple[int, int]:
    """Height and width of the maps of stages 2 to 4: the first convolution rounds up, each pooling down."""
    height, width = (length // 2 if stem == "cifar" else (length + 1) // 2 // 8 for length in image_size)
    return height, width


FOREIGN = {
    "googlenet_bn": {
        "torchvision": by_rules(
            (r"stem\.(conv\d)\.affine\.(.*)", r"\1.conv.\2"),
            (r"stem\.(conv\d)\.norm\.(.*)", r"\1.bn.\2"),
            (r"stage\d\.(inception\w+\.branch1)\.0\.affine\.(.*)", r"\1.conv.\2"),
            (r"stage\d\.(inception\w+\.branch1)\.0\.norm\.(.*)", r"\1.bn.\2"),
            (r"stage\d\.(inception\w+\.branch\d\.\d)\.affine\.(.*)", r"\1.conv.\2"),
            (r"stage\d\.(inception\w+\.branch\d\.\d)\.norm\.(.*)", r"\1.bn.\2"),
            (r"classifier\.(.*)", r"fc.\1"),
            *(
                rule
                for number, part in ((1, "stage2"), (2, "stage3"))
                for rule in (
                    (rf"heads\.{part}\.conv\.affine\.(.*)", rf"aux{number}.conv.conv.\1"),
                    (rf"heads\.{part}\.conv\.norm\.(.*)", rf"aux{number}.conv.bn.\1"),
                    (rf"heads\.{part}\.hidden\.affine\.(.*)", rf"aux{number}.fc1.\1"),
                    (rf"heads\.{part}\.classifier\.(.*)", rf"aux{number}.fc2.\1"),
                )
            ),
        )
    }
}
