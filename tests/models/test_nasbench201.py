"""The networks of NAS-Bench-201."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from models.layers.activation import relu
from models.layers.norm import batch_norm
from models.layers.residual import Residual
from models.nasbench201 import EDGE_OPERATIONS, RESNET_CELL, benchmark_cell
from models.network import Network

CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SHORTCUT = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


def build(size: tuple[int, int] = (32, 32), num_classes: int = 10, **own: Any) -> Network:
    torch.manual_seed(0)
    model = models.create("nasbench201", num_classes=num_classes, in_channels=3, image_size=size, **own)
    assert isinstance(model, Network)
    return model


@pytest.mark.parametrize(
    ("cell", "classes", "total"),
    [
        # The largest and the smallest in the tables of the benchmark, in millions: 1.531546 and 0.073306 on CIFAR-10,
        # 1.537396 and 0.079156 on CIFAR-100.
        (CONVOLUTIONS, 10, 1_531_546),
        (SHORTCUT, 10, 73_306),
        (CONVOLUTIONS, 100, 1_537_396),
        (SHORTCUT, 100, 79_156),
    ],
)
def test_parameters_of_the_benchmark(cell: str, classes: int, total: int) -> None:
    with torch.device("meta"):
        model = build(num_classes=classes, cell=cell)

    assert sum(parameter.numel() for parameter in model.parameters()) == total


def test_all_15625_cells_can_be_written_by_their_edges() -> None:
    texts = {f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in product(EDGE_OPERATIONS, repeat=6)}
    assert len(texts) == 15_625
    for text in sorted(texts)[::97]:
        graph = benchmark_cell(text)
        written = "+".join("|" + "".join(f"{edge.operation}~{edge.source}|" for edge in node) for node in graph.nodes)
        assert written == text
        assert graph.output == (3,)


def test_an_edge_replaces_an_operation_of_the_cell() -> None:
    replaced = build(cells=1, edge_0_2="avg_pool_3x3", edge_2_3="nor_conv_1x1").state_dict()
    written = build(
        cells=1, cell="|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    ).state_dict()

    assert replaced.keys() == written.keys()
    assert all(torch.equal(replaced[name], written[name]) for name in written)


def test_the_default_cell_is_a_residual_block() -> None:
    cell = build(cells=1).get_submodule("stage1.0").eval()
    convs = [module for module in cell.modules() if isinstance(module, nn.Conv2d)]
    x = torch.randn(2, 16, 8, 8)
    eps = (1 + 1e-5) ** -0.5  # the running statistics at their initial values

    expected = x
    for conv in convs:
        expected = F.conv2d(expected.relu(), conv.weight, padding=1) * eps
    torch.testing.assert_close(cell(x), x + expected)


def test_skeleton_of_the_paper() -> None:
    model = build(cells=2)
    x = torch.randn(2, 3, 32, 32)
    shapes = {}
    for name in ("stem", "stage1", "stage2", "stage3"):
        x = model.get_submodule(name)(x)
        shapes[name] = tuple(x.shape[1:])

    assert shapes == {"stem": (16, 32, 32), "stage1": (16, 32, 32), "stage2": (32, 16, 16), "stage3": (64, 8, 8)}
    assert sum(isinstance(module, Residual) for module in model.modules()) == 2


def test_a_cell_without_edges_gives_the_same_logits_for_all_images() -> None:
    model = build(cells=1, cell="|none~0|+|none~0|none~1|+|none~0|none~1|none~2|").eval()

    first, second = model(torch.randn(2, 3, 32, 32))
    assert torch.equal(first, second)


def test_width_and_dropout() -> None:
    model = build(cells=1, width=0.5, dropout=0.3)

    assert model.get_submodule("classifier").in_features == 32
    assert model.get_submodule("dropout").p == 0.3


def test_its_own_norm_and_activation_named_give_the_same() -> None:
    x = torch.randn(2, 3, 8, 8)

    assert torch.equal(build((8, 8), cells=1, norm=batch_norm(), activation=relu())(x), build((8, 8), cells=1)(x))


def test_smallest_image() -> None:
    """The last stage has 2x2 positions; one pixel less, and it has one."""
    model = build((5, 7), cells=1)
    assert model(torch.randn(2, 3, 5, 7)).shape == (2, 10)

    x = torch.randn(2, 3, 5, 4)
    for part in ("stem", "stage1", "stage2", "stage3"):
        x = model.get_submodule(part)(x)
    assert x.shape[2:] == (2, 1)
    with pytest.raises(ValueError, match="nasbench201 needs at least 5x5 images, got 5x4"):
        build((5, 4))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"stem": "cifar"}, "nasbench201 takes no stem: the benchmark has one stem, a 3x3 convolution"),
        ({"cells": 0}, "cells must be at least 1, got 0"),
        ({"filters": 0}, "filters must be at least 1, got 0"),
        ({"width": -1.0}, "width must be positive and finite, got -1.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        (
            {"edge_0_1": "sep_conv_3x3"},
            "edge_0_1 must be one of none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3",
        ),
        (
            {"cell": "|nor_conv_3x4~0|"},
            "cell: node 1 has the unknown operation 'nor_conv_3x4'; did you mean nor_conv_3x3?",
        ),
        ({"cell": "|none~0|"}, "cell must have an edge from each earlier node"),
        ({"cell": RESNET_CELL.replace("~2", "~1")}, "cell must have an edge from each earlier node"),
        ({"cell": RESNET_CELL + "+|none~0|"}, "cell must have an edge from each earlier node"),
    ],
)
def test_values_outside_their_range_are_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**own)
