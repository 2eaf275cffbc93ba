"""Inception-v3: Szegedy et al. 2015, Rethinking the Inception Architecture for Computer Vision, arXiv:1512.00567.

It is torchvision's network; the letters A to E of the modules are torchvision's, too. Below are the parts that it shares
with Inception-v4 and Inception-ResNet-v2.
Our deviations: the initialization (Kaiming); a stem for small images; the auxiliary classifier takes maps smaller than
17x17, too; the weight of its loss is 0.3 as in GoogLeNet.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.branches import Builder, Convolution, Fork, Pool, Step, at_full_size
from models.layers.norm import Norm, batch_norm
from models.layers.place import Layout, Place
from models.network import Auxiliary, Network

Stem = Literal["imagenet", "cifar"]
ROW, COLUMN = (1, 7), (7, 1)
SHORT_ROW, SHORT_COLUMN = (1, 3), (3, 1)


def inception_v3(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.5,
    width: float = 1.0,
    aux: Auxiliary = "heads",
) -> Network:
    """The network for 299x299 images, with one auxiliary classifier after the 17x17 maps.

    Its own normalization is batch normalization with an eps of 1e-3.

    Args:
        stem: `cifar` has the same convolutions, padded and of stride 1, and no pooling.
        dropout: of the classifier's input.
        aux: what becomes of the auxiliary classifier.
    """
    builder = builder_of("inception_v3", image_size, norm, activation, stem, dropout, width)
    checks.one_of("aux", aux, ("none", "heads", "skip"))
    stages = {
        "stage1": {"mixed_5b": v3_a(32), "mixed_5c": v3_a(64), "mixed_5d": v3_a(64)},
        "stage2": {
            "mixed_6a": V3_B,
            "mixed_6b": v3_c(128),
            "mixed_6c": v3_c(160),
            "mixed_6d": v3_c(160),
            "mixed_6e": v3_c(192),
        },
        "stage3": {"mixed_7a": V3_D, "mixed_7b": V3_E, "mixed_7c": V3_E},
    }
    parts, channels = chained(builder, in_channels, {"stem": stem_of(V3_STEM, stem), **stages})
    heads = {}
    if aux != "none":
        if isinstance(builder.norm.layer(1, Place(Layout.MAPS)), nn.InstanceNorm2d):
            raise checks.RefusedError(
                "instance normalization is over the positions of a map, and the auxiliary classifier of inception_v3 ends with "
                "maps of one; use norm=layer, or aux=none"
            )
        # The maps of stage 2 have 17 positions a side where the images have 299.
        fits = min(image_size) >= (35 if stem == "cifar" else 299)
        heads["stage2"] = convolutional_head(builder, channels["stage2"], num_classes, fits=fits)
    return classifying(parts, channels["stage3"], num_classes, dropout, heads=heads, skip=aux == "skip")


def builder_of(
    name: str,
    image_size: tuple[int, int],
    norm: Norm | None,
    activation: Activation | None,
    stem: str,
    dropout: float,
    width: float,
) -> Builder:
    """The builder of a family's steps, after the arguments that all of these networks have are checked."""
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    # Two modules halve the size without padding, after a stem that does so three times and has unpadded convolutions.
    checks.image_at_least(f"{name} with stem={stem}", image_size, 7 if stem == "cifar" else 75)
    checks.probability("dropout", dropout)
    checks.positive("width", width)
    return Builder(batch_norm(eps=1e-3) if norm is None else norm, relu() if activation is None else activation, width)


def stem_of(steps: Mapping[str, Step], stem: str) -> dict[str, Step]:
    return dict(steps) if stem == "imagenet" else at_full_size(steps)


def chained(
    builder: Builder, in_channels: int, parts: Mapping[str, Mapping[str, Step]]
) -> tuple[OrderedDict[str, nn.Module], dict[str, int]]:
    """The parts of a network, and the channels that each gives."""
    built, channels = OrderedDict[str, nn.Module](), {}
    for name, steps in parts.items():
        built[name], in_channels = builder.chain(in_channels, steps)
        channels[name] = in_channels
    return built, channels


def classifying(
    parts: OrderedDict[str, nn.Module],
    channels: int,
    num_classes: int,
    dropout: float,
    *,
    heads: Mapping[str, nn.Module] | None = None,
    skip: bool = False,
) -> Network:
    """The network of these parts, with averages over all positions and a classifier at the end, initialized."""
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(channels, num_classes)
    model = Network(parts, heads=heads, skip=skip)
    initialize(model, kaiming(), torch.default_generator)
    return model


def convolutional_head(builder: Builder, channels: int, num_classes: int, *, fits: bool) -> nn.Sequential:
    """v3's auxiliary classifier: average pooling, a 1x1 and an unpadded 5x5 convolution, the mean over all positions.

    Args:
        fits: whether the maps have at least 17 positions a side, so that 5x5 pooling at stride 3 leaves what the 5x5
            convolution needs; smaller maps are averaged over a 5x5 grid.
    """
    layers = OrderedDict[str, nn.Module](pool=nn.AvgPool2d(5, stride=3) if fits else nn.AdaptiveAvgPool2d(5))
    layers["conv1"], projected = builder.step(channels, Convolution(128))
    layers["conv2"], features = builder.step(projected, Convolution(768, 5, padding=0))
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(features, num_classes)
    return nn.Sequential(layers)


HALVED = Pool("max", stride=2)
AVERAGE = Pool("average")

V3_STEM: dict[str, Step] = {
    "conv_1a": Convolution(32, 3, stride=2, padding=0),
    "conv_2a": Convolution(32, 3, padding=0),
    "conv_2b": Convolution(64, 3),
    "pool_3a": HALVED,
    "conv_3b": Convolution(80),
    "conv_4a": Convolution(192, 3, padding=0),
    "pool_5a": HALVED,
}


def v3_a(pooled: int) -> Fork:
    return Fork(
        (Convolution(64),),
        (Convolution(48), Convolution(64, 5)),
        (Convolution(64), Convolution(96, 3), Convolution(96, 3)),
        (AVERAGE, Convolution(pooled)),
    )


V3_B = Fork(
    (Convolution(384, 3, stride=2, padding=0),),
    (Convolution(64), Convolution(96, 3), Convolution(96, 3, stride=2, padding=0)),
    (HALVED,),
)


def v3_c(inner: int) -> Fork:
    return Fork(
        (Convolution(192),),
        (Convolution(inner), Convolution(inner, ROW), Convolution(192, COLUMN)),
        (
            Convolution(inner),
            Convolution(inner, COLUMN),
            Convolution(inner, ROW),
            Convolution(inner, COLUMN),
            Convolution(192, ROW),
        ),
        (AVERAGE, Convolution(192)),
    )


V3_D = Fork(
    (Convolution(192), Convolution(320, 3, stride=2, padding=0)),
    (Convolution(192), Convolution(192, ROW), Convolution(192, COLUMN), Convolution(192, 3, stride=2, padding=0)),
    (HALVED,),
)


def row_and_column(channels: int) -> Fork:
    """A row and a column side by side."""
    return Fork((Convolution(channels, SHORT_ROW),), (Convolution(channels, SHORT_COLUMN),))


V3_E = Fork(
    (Convolution(320),),
    (Convolution(384), row_and_column(384)),
    (Convolution(448), Convolution(384, 3), row_and_column(384)),
    (AVERAGE, Convolution(192)),
)

LAYERS = {"affine": "conv", "norm": "bn"}

V3_BRANCHES = {
    "5": ("1x1", "5x5", "3x3dbl", "_pool"),
    "6a": ("3x3", "3x3dbl"),
    "6": ("1x1", "7x7", "7x7dbl", "_pool"),
    "7a": ("3x3", "7x7x3"),
    "7": ("1x1", "3x3", "3x3dbl", "_pool"),
}
"""torchvision's names of the branches, by module or size."""


def _v3_name(match: re.Match[str]) -> str:
    module, branch, step, part, layer, rest = match.groups()
    name = V3_BRANCHES.get(module, V3_BRANCHES[module[0]])[int(branch) - 1]
    if name not in ("1x1", "_pool") and (module, name) != ("6a", "3x3"):
        name += f"_{int(step) + 1}" + ("" if part is None else "ab"[int(part) - 1])
    return f"Mixed_{module}.branch{name}.{LAYERS[layer]}.{rest}"


V3_CONVOLUTIONS = {"1a": "3x3", "2a": "3x3", "2b": "3x3", "3b": "1x1", "4a": "3x3"}


FOREIGN = {
    "inception_v3": {
        "torchvision": by_rules(
            (
                r"stem\.conv_(\w\w)\.(affine|norm)\.(.*)",
                lambda found: f"Conv2d_{found[1]}_{V3_CONVOLUTIONS[found[1]]}.{LAYERS[found[2]]}.{found[3]}",
            ),
            (r"stage\d\.mixed_(\w\w)\.branch(\d)\.(\d)(?:\.branch(\d)\.0)?\.(affine|norm)\.(.*)", _v3_name),
            (
                r"heads\.stage2\.conv(\d)\.(affine|norm)\.(.*)",
                lambda found: f"AuxLogits.conv{int(found[1]) - 1}.{LAYERS[found[2]]}.{found[3]}",
            ),
            (r"heads\.stage2\.classifier\.(.*)", r"AuxLogits.fc.\1"),
            (r"classifier\.(.*)", r"fc.\1"),
        )
    },
}
