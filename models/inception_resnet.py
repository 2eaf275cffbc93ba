"""Inception-ResNet-v2: Szegedy et al. 2016, Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.

arXiv:1602.07261, section 3.2; it is timm's network, whose first module and scales are those of the authors' code.
Our deviations: the initialization (Kaiming); a stem for small images.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from models import checks
from models.inception import (
    COLUMN,
    HALVED,
    ROW,
    SHORT_COLUMN,
    SHORT_ROW,
    V3_STEM,
    Stem,
    builder_of,
    classifying,
    stem_of,
)
from models.inception_v4 import AVERAGE_INSIDE, checked_blocks, timm_table
from models.layers.activation import Activation
from models.layers.block import conv_block
from models.layers.branches import Builder, Convolution, Fork
from models.layers.norm import Norm, layerless
from models.layers.residual import Residual, join
from models.network import Network


def inception_resnet_v2(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.2,
    width: float = 1.0,
    blocks: tuple[int, ...] = (10, 20, 10),
    scales: tuple[float, ...] = (0.17, 0.1, 0.2),
) -> Network:
    """The network for 299x299 images. Its own normalization is batch normalization with an eps of 1e-3.

    Args:
        stem: `cifar` has the same convolutions, padded and of stride 1, and no pooling.
        dropout: of the classifier's input.
        blocks: residual blocks of each stage; the last of all has no activation and the scale 1.
        scales: factor on the residual branches of each stage; section 3.3: 0.1 to 0.3 keep the training stable.
    """
    builder = builder_of("inception_resnet_v2", image_size, norm, activation, stem, dropout, width)
    checked_blocks(blocks)
    if len(scales) != 3:
        raise ValueError(f"scales must be three numbers, got {list(scales)}")
    for scale in scales:
        checks.positive("scales", scale)
    parts = OrderedDict[str, nn.Module]()
    parts["stem"], channels = builder.chain(in_channels, stem_of(STEM, stem))
    for stage, (name, first, inner) in enumerate(STAGES):
        layers = OrderedDict[str, nn.Module]()
        layers[name], channels = builder.fork(channels, first)
        for block in range(blocks[stage] - (stage == 2)):
            layers[str(block)] = residual_block(builder, channels, inner, scales[stage])
        if stage == 2:
            layers["last"] = residual_block(builder, channels, inner, 1.0, activated=False)
            layers["conv2d_7b"], channels = builder.step(channels, Convolution(1536))
        parts[f"stage{stage + 1}"] = nn.Sequential(layers)
    return classifying(parts, channels, num_classes, dropout)


def residual_block(builder: Builder, channels: int, inner: Fork, scale: float, *, activated: bool = True) -> Residual:
    """An inception module, a 1x1 convolution back to `channels` without normalization, a constant factor, the sum."""
    fork, inside = builder.fork(channels, inner)
    activation = builder.activation if activated else None
    projection = conv_block(
        inside, channels, 1, norm=layerless(builder.norm), activation=activation, ends_branch=activated
    )
    branch = nn.Sequential(OrderedDict[str, nn.Module](fork=fork, projection=projection, scale=Scale(scale)))
    return join(branch, nn.Identity(), channels, norm=layerless(builder.norm), activation=activation)


class Scale(nn.Module):
    """A constant factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


STEM = {name.replace("conv", "conv2d").replace("pool", "maxpool"): step for name, step in V3_STEM.items()}
STAGES = (
    (
        "mixed_5b",
        Fork(
            (Convolution(96),),
            (Convolution(48), Convolution(64, 5)),
            (Convolution(64), Convolution(96, 3), Convolution(96, 3)),
            (AVERAGE_INSIDE, Convolution(64)),
        ),
        Fork(
            (Convolution(32),),
            (Convolution(32), Convolution(32, 3)),
            (Convolution(32), Convolution(48, 3), Convolution(64, 3)),
        ),
    ),
    (
        "mixed_6a",
        Fork(
            (Convolution(384, 3, stride=2, padding=0),),
            (Convolution(256), Convolution(256, 3), Convolution(384, 3, stride=2, padding=0)),
            (HALVED,),
        ),
        Fork((Convolution(192),), (Convolution(128), Convolution(160, ROW), Convolution(192, COLUMN))),
    ),
    (
        "mixed_7a",
        Fork(
            (Convolution(256), Convolution(384, 3, stride=2, padding=0)),
            (Convolution(256), Convolution(288, 3, stride=2, padding=0)),
            (Convolution(256), Convolution(288, 3), Convolution(320, 3, stride=2, padding=0)),
            (HALVED,),
        ),
        Fork((Convolution(192),), (Convolution(192), Convolution(224, SHORT_ROW), Convolution(256, SHORT_COLUMN))),
    ),
)
"""Of each stage the module that it begins with, that module, and what is inside of its residual blocks."""

FOREIGN = {
    "inception_resnet_v2": {
        "timm": timm_table(
            (r"stem\.(.*)", r"\1"),
            (r"stage\d\.(mixed_\w\w|conv2d_7b)\.(.*)", r"\1.\2"),
            (r"stage3\.last\.branch\.projection\.conv\.(.*)", r"block8.conv2d.\1"),
            (r"stage3\.last\.branch\.fork\.(.*)", r"block8.\1"),
            *(
                rule
                for stage, repeat in ((1, "repeat"), (2, "repeat_1"), (3, "repeat_2"))
                for rule in (
                    (rf"stage{stage}\.(\d+)\.branch\.projection\.conv\.(.*)", rf"{repeat}.\1.conv2d.\2"),
                    (rf"stage{stage}\.(\d+)\.branch\.fork\.(.*)", rf"{repeat}.\1.\2"),
                )
            ),
            (r"classifier\.(.*)", r"classif.\1"),
        )
    }
}
