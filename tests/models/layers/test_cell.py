"""Cells and their operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.activation import Activation, relu
from models.layers.cell import Cell, Source, nasnet_cell, summing_cell
from models.layers.cell_operations import OPERATIONS, FactorizedReduction, Operation, Style
from models.layers.cell_text import parse_cell
from models.layers.norm import batch_norm, no_norm
from models.layers.same import SamePad, same_average_pool, same_max_pool


class LargerHalf(nn.Module):
    """Maxout of two pieces."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(*x.chunk(2, 1))


PLAIN = Style(no_norm(), relu())
NORMED = Style(batch_norm(), relu())
HALVES = Style(no_norm(), Activation(lambda num_features, layout: LargerHalf(), pieces=2))


def cell(text: str, channels: int = 4, style: Style = PLAIN) -> Cell:
    torch.manual_seed(0)
    return summing_cell(parse_cell("cell", text, inputs=1, operations=OPERATIONS), channels, style)


def images(channels: int = 4, size: int = 5) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def test_a_node_is_the_sum_of_its_edges() -> None:
    x = images()
    made = cell("|avg_pool_3x3~0|+|skip_connect~0|max_pool_3x3~1|none~1|")
    first = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    torch.testing.assert_close(made(x), x + F.max_pool2d(first, 3, 1, 1))


def test_outputs_are_concatenated() -> None:
    x = images()

    torch.testing.assert_close(
        cell("|avg_pool_3x3~0|+|skip_connect~0|")(x),
        torch.cat([F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x], 1),
    )


def test_what_the_output_does_not_read_is_not_built() -> None:
    made = cell("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|")
    # Node 1 is read by no other, so it is an output of its own.
    assert set(made.edges) == {"1_0", "2_0", "3_0"}

    graph = parse_cell("cell", "|nor_conv_3x3~0|+|nor_conv_1x1~0|", inputs=1, operations=OPERATIONS, output=(2,))
    assert set(summing_cell(graph, 4, PLAIN).edges) == {"2_0"}


def test_a_node_without_edges_is_zero() -> None:
    assert torch.equal(cell("|none~0|+|skip_connect~0|skip_connect~1|")(images()), images())
    assert torch.equal(cell("|none~0|")(images()), torch.zeros(2, 4, 5, 5))


def operation(name: str) -> Operation:
    found = OPERATIONS[name]
    assert found is not None
    return found


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"none"}))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(4, 4), (3, 8)])
def test_each_operation_gives_its_channels_and_size(name: str, stride: int, channels: tuple[int, int]) -> None:
    made = operation(name)(*channels, stride, NORMED)

    for size in (5, 6):
        assert made(images(channels[0], size)).shape == (2, channels[1], -(-size // stride), -(-size // stride))


def kernels(module: nn.Module) -> list[tuple[tuple[int, ...], int, tuple[int, ...]]]:
    """(kernel, groups, dilation) of each convolution."""
    convs = (each for each in module.modules() if isinstance(each, nn.Conv2d))
    return [(conv.kernel_size, conv.groups, conv.dilation) for conv in convs]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nor_conv_1x1", [((1, 1), 1, (1, 1))]),
        ("nor_conv_3x3", [((3, 3), 1, (1, 1))]),
        ("sep_conv_5x5", [((5, 5), 8, (1, 1)), ((1, 1), 1, (1, 1))] * 2),
        ("dil_conv_3x3", [((1, 1), 1, (1, 1)), ((3, 3), 1, (2, 2)), ((1, 1), 1, (1, 1))]),
        ("conv_1x7_7x1", [((1, 1), 1, (1, 1)), ((1, 7), 1, (1, 1)), ((7, 1), 1, (1, 1)), ((1, 1), 1, (1, 1))]),
        ("conv_1x3_3x1", [((1, 1), 1, (1, 1)), ((1, 3), 1, (1, 1)), ((3, 1), 1, (1, 1)), ((1, 1), 1, (1, 1))]),
        ("max_pool_7x7", []),
        ("skip_connect", []),
    ],
)
def test_convolutions_of_an_operation(name: str, expected: list[object]) -> None:
    assert kernels(operation(name)(8, 8, 1, NORMED)) == expected


def test_a_separable_operation_is_activation_convolution_normalization_twice() -> None:
    made = operation("sep_conv_3x3")(4, 6, 1, NORMED)
    kinds = [type(module) for module in made.modules() if not list(module.children())]

    assert kinds == [nn.ReLU, nn.Conv2d, nn.Conv2d, nn.BatchNorm2d] * 2
    convs = [module for module in made.modules() if isinstance(module, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(4, 4), (4, 6), (6, 6), (6, 6)]


def test_without_a_norm_the_last_map_of_each_step_has_a_bias() -> None:
    made = operation("sep_conv_3x3")(4, 6, 1, PLAIN)
    convs = [module for module in made.modules() if isinstance(module, nn.Conv2d)]

    assert [conv.bias is not None for conv in convs] == [False, True, False, True]


def test_maps_carry_the_pieces_of_the_activation() -> None:
    made = operation("sep_conv_3x3")(4, 6, 1, HALVES)
    x = images(8)
    convs = [module for module in made.modules() if isinstance(module, nn.Conv2d)]

    inner = convs[1](convs[0](torch.maximum(*x.chunk(2, 1))))
    expected = convs[3](convs[2](torch.maximum(*inner.chunk(2, 1))))
    assert expected.shape[1] == 12
    torch.testing.assert_close(made(x), expected)


def test_concatenated_pieces_stay_with_their_features() -> None:
    """Nodes 1 and 2 are both the input."""
    x = images(8)
    made = cell("|skip_connect~0|+|skip_connect~0|", 4, HALVES)
    larger = torch.maximum(*x.chunk(2, 1))

    assert torch.equal(LargerHalf()(made(x)), torch.cat([larger, larger], 1))
    assert cell("|none~0|", 4, HALVES)(x).shape == x.shape


@pytest.mark.parametrize("size", [5, 6])
def test_a_reduction_reads_even_and_odd_positions(size: int) -> None:
    made = FactorizedReduction(4, 7, PLAIN, activated_first=True)
    x = images(size=size)
    odd = F.pad(x.relu(), (0, 1, 0, 1))[:, :, 1:, 1:]

    halves = [
        F.conv2d(positions[:, :, ::2, ::2], cast("Tensor", conv.weight), cast("Tensor", conv.bias))
        for conv, positions in ((made.even, x.relu()), (made.odd, odd))
    ]
    torch.testing.assert_close(made(x), torch.cat(halves, 1))
    assert [half.shape for half in halves] == [(2, 3, 3, 3), (2, 4, 3, 3)]


@pytest.mark.parametrize(("size", "kernel"), [(5, 3), (6, 3), (7, 5), (8, 7), (1, 3)])
@pytest.mark.parametrize("make", [same_max_pool, same_average_pool])
def test_pooling_of_stride_two_sees_what_tensorflow_pads(
    size: int, kernel: int, make: Callable[[int, int], nn.Module]
) -> None:
    """The padding of n positions: (ceil(n / 2) - 1) * 2 + k - n in all, the larger half below and right."""
    total = max((-(-size // 2) - 1) * 2 + kernel - size, 0)
    before = total // 2
    x = images(1, size)
    found = make(kernel, 2)(x)

    for row in range(-(-size // 2)):
        for column in range(-(-size // 2)):
            top, left = 2 * row - before, 2 * column - before
            seen = x[:, :, max(0, top) : top + kernel, max(0, left) : left + kernel]
            expected = seen.amax((2, 3)) if make is same_max_pool else seen.sum((2, 3)) / kernel**2
            torch.testing.assert_close(found[:, :, row, column], expected)


def test_no_padding_where_the_kernel_is_no_larger_than_the_stride() -> None:
    assert torch.equal(SamePad((1, 1), (2, 2))(images()), images())


def test_inputs_are_brought_to_the_channels_and_the_size_of_the_cell() -> None:
    graph = parse_cell("cell", "|skip_connect~0|skip_connect~1|", inputs=2, operations=OPERATIONS)
    current, same, larger = Source(12, 1), Source(6, 1), Source(6, 0)

    def prepared(previous: Source | None) -> nn.Module:
        return nasnet_cell(graph, 4, current, previous, reduces=False, style=NORMED, drop_prob=0.0).prepare["1"]

    assert kernels(prepared(same)) == [((1, 1), 1, (1, 1))]
    assert isinstance(prepared(larger), FactorizedReduction)
    assert isinstance(prepared(None), nn.Identity)
    assert isinstance(prepared(Source(4, 1)), nn.Identity)


def test_a_reducing_cell_halves_its_inputs_alone() -> None:
    graph = parse_cell(
        "cell", "|max_pool_3x3~0|+|max_pool_3x3~2|skip_connect~1|", inputs=2, operations=OPERATIONS, output=(0, 3)
    )
    made = nasnet_cell(graph, 4, Source(6, 1), Source(6, 1), reduces=True, style=NORMED, drop_prob=0.0)

    assert made(images(6, 9), images(6, 9)).shape == (2, 8, 5, 5)


def test_an_input_that_is_not_read_is_not_prepared() -> None:
    graph = parse_cell("cell", "|sep_conv_3x3~0|", inputs=2, operations=OPERATIONS)
    made = nasnet_cell(graph, 4, Source(6, 1), Source(6, 1), reduces=False, style=NORMED, drop_prob=0.0)

    assert set(made.prepare) == {"0"}


def test_drop_path_leaves_out_operations_but_no_skip_connection() -> None:
    graph = parse_cell("cell", "|max_pool_3x3~0|skip_connect~1|", inputs=2, operations=OPERATIONS)
    made = nasnet_cell(graph, 4, Source(4, 0), None, reduces=False, style=PLAIN, drop_prob=0.5)
    x = images().abs()
    torch.manual_seed(0)
    with torch.no_grad():
        pooled = made.edges["2_0"](made.prepare["0"](x))
        factors = torch.cat([(made(x, x) - x) / pooled for _ in range(20)])

    assert {round(float(example.mean()), 3) for example in factors} == {0.0, 2.0}
    torch.testing.assert_close(made.eval()(x, x), x + pooled)
