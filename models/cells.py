"""Networks of cells, which are texts: NASNet, AmoebaNet and what a search finds.

Zoph et al. 2018, Learning Transferable Architectures for Scalable Image Recognition, arXiv:1707.07012; Real et al. 2019,
Regularized Evolution for Image Classifier Architecture Search, arXiv:1802.01548.

Our deviations: ScheduledDropPath grows over the cells as in the paper, but not over training, of whose progress a network
knows nothing. There is no auxiliary classifier. Weights are normal with variance 2 / fan-in rather than 2 / fan-out. The
momentum of batch normalization is torch's, not 0.0003, and average pooling of stride 2 counts the zeros around the map,
both as in timm.

Without an oracle: nasnet_a_mobile and nasnet_a_cifar as they are (timm has one network, nasnetalarge; built with the filters
of mobile, it is ours with mobile's filters and its own six cells a stage), and amoebanet_a. Their numbers of parameters are
compared with the papers'.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Literal

import torch
from torch import nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import activated, conv_block
from models.layers.cell import Cell, LastState, NasnetStage, NasnetStem, Source, nasnet_cell
from models.layers.cell_operations import OPERATIONS, Style
from models.layers.cell_text import CellGraph, parse_cell
from models.layers.norm import Norm, batch_norm
from models.layers.place import Layout
from models.layers.width import scaled
from models.network import Network

SMALLEST = {"imagenet": 35, "cifar": 5}
"""The last stage then has 2x2 positions: a normalization of one channel of one example needs more than one."""


def nasnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    dropout: float = 0.5,
    width: float = 1.0,
    cells: int,
    filters: int,
    stem_channels: int,
    normal_cell: str,
    normal_output: tuple[int, ...] | None,
    reduction_cell: str,
    reduction_output: tuple[int, ...] | None,
    skip_reduction: bool,
    drop_path: float,
) -> Network:
    """Three stages of `cells` normal cells, with a reducing cell before the second and the third.

    By default with batch normalization of the authors' epsilon (0.001, or 0.00001 with the stem for CIFAR), ReLU and the
    Kaiming initialization.

    Args:
        stem: `imagenet` is a 3x3 convolution of stride 2 and two reducing cells, together 1/8 of the size; `cifar` the
            convolution alone, without a stride.
        dropout: probability with which an input of the classifier is set to 0 in training.
        width: a factor on all channels.
        cells: the N of the papers.
        filters: channels of each node in the first stage, F; every reduction doubles them.
        normal_cell: as in `models.layers.cell_text`, with nodes 0, the cell before, and 1, the one before that; the
            operations are those of `models.layers.cell_operations`.
        normal_output: its nodes that are concatenated; None are those that no other reads.
        reduction_cell: of the same kind.
        skip_reduction: whether the cell after a reducing one gets, as node 1, what the reducing cell had as node 1.
        drop_path: probability with which each operation of the last cell is dropped; it grows linearly over the cells.
    """
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    checks.image_at_least(f"nasnet with the stem {stem}", image_size, SMALLEST[stem])
    checks.probability("dropout", dropout)
    checks.probability("drop_path", drop_path)
    checks.positive("width", width)
    checks.at_least("cells", cells, 1)
    checks.at_least("filters", filters, 4)
    checks.at_least("stem_channels", stem_channels, 1)
    norm = batch_norm(eps=1e-3 if stem == "imagenet" else 1e-5) if norm is None else norm
    style = Style(norm, relu() if activation is None else activation)
    normal = parse_cell("normal_cell", normal_cell, inputs=2, operations=OPERATIONS, output=normal_output)
    reducing = parse_cell("reduction_cell", reduction_cell, inputs=2, operations=OPERATIONS, output=reduction_output)
    filters, stem_channels = max(4, scaled(filters, width)), scaled(stem_channels, width)

    built = _Cells(stem_channels, style, drop_path, total=3 * cells + (4 if stem == "imagenet" else 2))
    parts: dict[str, nn.Module] = {"stem": _stem(built, stem, in_channels, reducing, filters)}
    for stage in range(3):
        channels = filters * 2**stage
        reduction = built.add(reducing, channels, reduces=True, skips=skip_reduction) if stage else None
        row = [built.add(normal, channels) for _ in range(cells)]
        parts[f"stage{stage + 1}"] = NasnetStage(reduction, row, skips=skip_reduction)
    features = built.current.channels
    parts["activation"] = LastState(activated(features, Layout.MAPS, norm=norm, activation=style.activation))
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(features, num_classes)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


class _Cells:
    """Builds one cell after the other, and knows what the last two of them put out."""

    def __init__(self, stem_channels: int, style: Style, drop_path: float, *, total: int) -> None:
        self.current = Source(stem_channels, 0)
        self.previous: Source | None = None
        self.style = style
        self.rates = (drop_path * number / total for number in count(1))

    def add(self, graph: CellGraph, channels: int, *, reduces: bool = False, skips: bool = False) -> Cell:
        cell = nasnet_cell(
            graph,
            channels,
            self.current,
            self.previous,
            reduces=reduces,
            style=self.style,
            drop_prob=next(self.rates),
        )
        out = Source(channels * len(graph.output), self.current.halvings + reduces)
        if not skips:
            self.previous = self.current
        self.current = out
        return cell


def _stem(built: _Cells, stem: str, in_channels: int, reducing: CellGraph, filters: int) -> NasnetStem:
    imagenet = stem == "imagenet"
    conv = conv_block(
        in_channels,
        built.current.channels * built.style.activation.pieces,
        3,
        stride=2 if imagenet else 1,
        padding=0 if imagenet else 1,
        norm=built.style.norm,
        activation=None,
    )
    cells = [built.add(reducing, filters // part, reduces=True) for part in (4, 2)] if imagenet else []
    return NasnetStem(conv, cells)


def _cell_of_timm(match: re.Match[str]) -> str:
    """timm's name of a cell: it counts the normal cells through, six a stage."""
    stage, cell = int(match["stage"]) - 1, match["cell"]
    return f"reduction_cell_{stage - 1}" if cell is None else f"cell_{6 * stage + int(cell)}"


def _name_in_timm(match: re.Match[str]) -> str:
    cell = f"cell_stem_{match['stem']}" if match["stem"] else _cell_of_timm(match)
    return f"{cell}.{_within_a_cell(match['rest'])}"


def _within_a_cell(name: str) -> str:
    """timm's name of what our cell calls `name`."""
    for pattern, replacement in (
        (r"prepare\.0\.0\.affine\.(\w+)", r"conv_1x1.conv.\1"),
        (r"prepare\.0\.0\.norm\.(\w+)", r"conv_1x1.bn.\1"),
        (r"prepare\.1\.0\.affine\.(\w+)", r"conv_prev_1x1.conv.\1"),
        (r"prepare\.1\.0\.norm\.(\w+)", r"conv_prev_1x1.bn.\1"),
        (r"prepare\.1\.even\.(\w+)", r"path_1.conv.\1"),
        (r"prepare\.1\.odd\.(\w+)", r"path_2.conv.\1"),
        (r"prepare\.1\.norm\.(\w+)", r"final_path_bn.\1"),
    ):
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    node, edge, step, layer, rest = re.fullmatch(r"edges\.(\d+)_(\d)\.(\d)\.(\w+)\.(\w+)", name).groups()  # type: ignore[union-attr]
    number = int(step) + 1
    theirs = {
        "depthwise": f"separable_{number}.depthwise_conv2d",
        "affine": f"separable_{number}.pointwise_conv2d",
        "norm": f"bn_sep_{number}",
    }[layer]
    return f"comb_iter_{int(node) - 2}_{('left', 'right')[int(edge)]}.{theirs}.{rest}"


FOREIGN = {
    "nasnet": {
        "timm": by_rules(
            (r"stem\.conv\.affine\.(\w+)", r"conv0.conv.\1"),
            (r"stem\.conv\.norm\.(\w+)", r"conv0.bn.\1"),
            (
                r"(?:stem\.cells\.(?P<stem>\d)|stage(?P<stage>\d)\.(?:cells\.(?P<cell>\d)|reduction))\.(?P<rest>.+)",
                _name_in_timm,
            ),
            (r"classifier\.(\w+)", r"last_linear.\1"),
        )
    }
}
