"""Inception-v4: Szegedy et al. 2016, Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.

arXiv:1602.07261, sections 3.1 and figures 3 to 9; it is timm's network.
Our deviations: the initialization (Kaiming); a stem for small images.
"""

from __future__ import annotations

import re

from torch import nn

from models.foreign import Replacement, Table, renamed
from models.inception import (
    COLUMN,
    HALVED,
    LAYERS,
    ROW,
    SHORT_COLUMN,
    SHORT_ROW,
    Stem,
    builder_of,
    chained,
    classifying,
    row_and_column,
    stem_of,
)
from models.layers.activation import Activation
from models.layers.branches import Convolution, Fork, Pool, numbered
from models.layers.norm import Norm
from models.network import Network


def inception_v4(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.2,
    width: float = 1.0,
    blocks: tuple[int, ...] = (4, 7, 3),
) -> Network:
    """The network for 299x299 images. Its own normalization is batch normalization with an eps of 1e-3.

    Args:
        stem: `cifar` has the same convolutions, padded and of stride 1; its poolings, too, have stride 1.
        dropout: of the classifier's input.
        blocks: modules A, B and C; modules that reduce the size come before B and C.
    """
    builder = builder_of("inception_v4", image_size, norm, activation, stem, dropout, width)
    first, second, third = checked_blocks(blocks)
    stages = [[V4_A] * first, [V4_REDUCTION_A, *[V4_B] * second], [V4_REDUCTION_B, *[V4_C] * third]]
    steps = {"stem": stem_of(V4_STEM, stem)}
    number = len(V4_STEM)  # modules are numbered through all parts, as in timm
    for stage, modules in enumerate(stages, start=1):
        steps[f"stage{stage}"] = numbered(modules, number)
        number += len(modules)
    parts, channels = chained(builder, in_channels, steps)
    return classifying(parts, channels["stage3"], num_classes, dropout)


def checked_blocks(blocks: tuple[int, ...]) -> tuple[int, int, int]:
    if len(blocks) != 3 or min(blocks) < 1:
        raise ValueError(f"blocks must be three numbers of at least 1, got {list(blocks)}")
    first, second, third = blocks
    return first, second, third


AVERAGE_INSIDE = Pool("average", counts_padding=False)
V4_STEM = numbered(
    [
        Convolution(32, 3, stride=2, padding=0),
        Convolution(32, 3, padding=0),
        Convolution(64, 3),
        Fork((HALVED,), (Convolution(96, 3, stride=2, padding=0),)),
        Fork(
            (Convolution(64), Convolution(96, 3, padding=0)),
            (Convolution(64), Convolution(64, ROW), Convolution(64, COLUMN), Convolution(96, 3, padding=0)),
        ),
        Fork((Convolution(192, 3, stride=2, padding=0),), (HALVED,)),
    ]
)
V4_A = Fork(
    (Convolution(96),),
    (Convolution(64), Convolution(96, 3)),
    (Convolution(64), Convolution(96, 3), Convolution(96, 3)),
    (AVERAGE_INSIDE, Convolution(96)),
)
V4_REDUCTION_A = Fork(
    (Convolution(384, 3, stride=2, padding=0),),
    (Convolution(192), Convolution(224, 3), Convolution(256, 3, stride=2, padding=0)),
    (HALVED,),
)
V4_B = Fork(
    (Convolution(384),),
    (Convolution(192), Convolution(224, ROW), Convolution(256, COLUMN)),
    (
        Convolution(192),
        Convolution(192, COLUMN),
        Convolution(224, ROW),
        Convolution(224, COLUMN),
        Convolution(256, ROW),
    ),
    (AVERAGE_INSIDE, Convolution(128)),
)
V4_REDUCTION_B = Fork(
    (Convolution(192), Convolution(192, 3, stride=2, padding=0)),
    (Convolution(256), Convolution(256, ROW), Convolution(320, COLUMN), Convolution(320, 3, stride=2, padding=0)),
    (HALVED,),
)
V4_C = Fork(
    (Convolution(256),),
    (Convolution(384), row_and_column(256)),
    (Convolution(384), Convolution(448, SHORT_COLUMN), Convolution(512, SHORT_ROW), row_and_column(256)),
    (AVERAGE_INSIDE, Convolution(256)),
)


BRANCH = re.compile(r"(.*?)\.branch(\d)\.(\d)(?:\.branch(\d)\.0)?(\..*)")


def timm_table(*rules: tuple[str, Replacement]) -> Table:
    """The table of a network of timm: its names of branches and layers, and then the first rule that matches.

    timm counts branches from 0. A branch of one convolution is that convolution; the steps of a branch that forks again
    follow an underscore, with a for the row and b for the column.
    """

    def table(model: nn.Module) -> dict[str, str]:
        state = list(model.state_dict())
        matches = [match for name in state if (match := BRANCH.fullmatch(name))]
        several = {match.group(1, 2) for match in matches if match[3] != "0"}
        forked = {match.group(1, 2) for match in matches if match[4]}

        def branch(match: re.Match[str]) -> str:
            module, number, step, part, rest = match.groups()
            name = f"{module}.branch{int(number) - 1}"
            if (module, number) in several:
                name += ("_" if (module, number) in forked else ".") + step + ("" if part is None else " ab"[int(part)])
            return name + rest

        def layer(match: re.Match[str]) -> str:
            return f".{LAYERS[match[1]]}.{match[2]}"

        names = {name: re.sub(r"\.(affine|norm)\.(\w+)$", layer, BRANCH.sub(branch, name)) for name in state}
        return {name: renamed(new, rules) for name, new in names.items()}

    return table


FOREIGN = {
    "inception_v4": {
        "timm": timm_table(
            (r"stem\.([35])\.branch\d\.(.*)", r"features.\1.conv.\2"),
            (r"(?:stem|stage\d)\.(\d+)\.(.*)", r"features.\1.\2"),
            (r"classifier\.(.*)", r"last_linear.\1"),
        )
    }
}
