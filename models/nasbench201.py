"""The networks of NAS-Bench-201: Dong and Yang 2020, NAS-Bench-201, arXiv:2001.00326.

Our deviations: an edge on which the output does not depend is not built, so that the parameters that the benchmark counts
for it are missing; images of odd size are halved with the last row and column by themselves; weights are normal with
variance 2 / fan-in.

Without an oracle: neither torchvision nor timm has it. The smallest and the largest number of parameters in the benchmark
are compared.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from models import checks
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import conv_block, pre_activated
from models.layers.cell import summing_cell
from models.layers.cell_operations import Conv, Style, chain
from models.layers.cell_text import CellGraph, Edge, parse_cell
from models.layers.norm import Norm, batch_norm
from models.layers.place import Layout, Position
from models.layers.residual import Residual, join
from models.layers.width import scaled
from models.network import Network

EdgeOperation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
EDGE_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

RESNET_CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
"""Two convolutions with a shortcut."""


@checks.takes_no(stem="the benchmark has one stem, a 3x3 convolution")
def nasbench201(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    dropout: float = 0.0,
    width: float = 1.0,
    cells: int = 5,
    filters: int = 16,
    cell: str = RESNET_CELL,
    edge_0_1: EdgeOperation | None = None,
    edge_0_2: EdgeOperation | None = None,
    edge_1_2: EdgeOperation | None = None,
    edge_0_3: EdgeOperation | None = None,
    edge_1_3: EdgeOperation | None = None,
    edge_2_3: EdgeOperation | None = None,
) -> Network:
    """Three stages of `cells` equal cells, with a residual block of stride 2 between them.

    By default with batch normalization, ReLU and the Kaiming initialization.

    Args:
        dropout: probability with which an input of the classifier is set to 0 in training.
        width: a factor on all channels.
        cells: in each stage, N.
        filters: channels of the first stage, C; each later stage doubles them.
        cell: in the benchmark's notation (`models.layers.cell_text`), four nodes with an edge between any two.
        edge_0_1: the operation from node 0 to node 1, in place of the one in `cell`; so the other five.

    Raises:
        ValueError: the cell is none of the benchmark, or a value is outside its range.
    """
    # The last stage then has 2x2 positions: a normalization of one channel of one example needs more than one.
    checks.image_at_least("nasbench201", image_size, 5)
    checks.probability("dropout", dropout)
    checks.positive("width", width)
    checks.at_least("cells", cells, 1)
    checks.at_least("filters", filters, 1)
    edges = {(0, 1): edge_0_1, (0, 2): edge_0_2, (1, 2): edge_1_2, (0, 3): edge_0_3, (1, 3): edge_1_3, (2, 3): edge_2_3}
    graph = with_operations(benchmark_cell(cell), {edge: name for edge, name in edges.items() if name is not None})
    style = Style(batch_norm() if norm is None else norm, relu() if activation is None else activation)

    channels = scaled(filters, width)
    parts: dict[str, nn.Module] = {
        "stem": conv_block(in_channels, channels * style.activation.pieces, 3, norm=style.norm, activation=None),
        "stage1": nn.Sequential(*(summing_cell(graph, channels, style) for _ in range(cells))),
    }
    for stage in (2, 3):
        channels *= 2
        row = (summing_cell(graph, channels, style) for _ in range(cells))
        parts[f"stage{stage}"] = nn.Sequential(reduction(channels // 2, channels, style), *row)
    parts["activation"] = pre_activated(channels, Layout.MAPS, norm=style.norm, activation=style.activation)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(channels, num_classes)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def benchmark_cell(text: str) -> CellGraph:
    """The cell of a text in the benchmark's notation.

    Raises:
        ValueError: it is none, or not of the benchmark's form.
    """
    graph = parse_cell(
        "cell", text, inputs=1, operations=EDGE_OPERATIONS, output=None if text.count("+") != 2 else (3,)
    )
    sources = [[edge.source for edge in edges] for edges in graph.nodes]
    if sources != [[0], [0, 1], [0, 1, 2]]:
        raise ValueError(
            f"cell must have an edge from each earlier node to nodes 1, 2 and 3, as {RESNET_CELL}, got {text}"
        )
    return graph


def with_operations(graph: CellGraph, operations: dict[tuple[int, int], str]) -> CellGraph:
    """The cell with other operations on the edges (from, to).

    Raises:
        ValueError: an operation is none of the benchmark.
    """
    for (source, node), operation in operations.items():
        checks.one_of(f"edge_{source}_{node}", operation, EDGE_OPERATIONS)
    nodes = tuple(
        tuple(Edge(operations.get((edge.source, node), edge.operation), edge.source) for edge in edges)
        for node, edges in enumerate(graph.nodes, start=1)
    )
    return replace(graph, nodes=nodes)


def reduction(in_channels: int, out_channels: int, style: Style) -> Residual:
    """Two 3x3 convolutions, the first of stride 2, with a shortcut of a 2x2 average pooling and a 1x1 convolution."""
    branch = chain(
        Conv(in_channels, out_channels, (3, 3), (2, 2), symmetric=True),
        Conv(out_channels, out_channels, (3, 3)),
        norm=style.norm,
        activation=style.activation,
        last=Position.BRANCH_END,
    )
    pool = nn.AvgPool2d(2, ceil_mode=True)
    pieces = style.activation.pieces
    project = style.norm.wrap(nn.Conv2d(pieces * in_channels, pieces * out_channels, 1, bias=False))
    shortcut = nn.Sequential(OrderedDict[str, nn.Module](pool=pool, affine=project))
    return join(branch, shortcut, out_channels, norm=style.norm, activation=None)
