"""The block builder: order, bias, sizes, and norms and activations that change the convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.layers.activation import maxout, relu
from models.layers.block import conv_block, linear_block, pre_activated, pre_conv_block, unread_conv
from models.layers.norm import Norm, batch_norm, group_norm, layer_norm, local_response_norm, no_norm, weight_norm
from models.layers.place import Layout, Place, Position


def test_affine_then_norm_then_activation() -> None:
    block = conv_block(3, 8, 3, norm=layer_norm(), activation=relu())

    assert [(name, type(layer)) for name, layer in block.named_children()] == [
        ("affine", nn.Conv2d),
        ("norm", nn.GroupNorm),
        ("activation", nn.ReLU),
    ]


def test_pooling_comes_before_the_norm() -> None:
    block = conv_block(3, 8, 3, pool=nn.MaxPool2d(2), norm=batch_norm(), activation=relu())

    assert [name for name, _ in block.named_children()] == ["affine", "pool", "norm", "activation"]


def test_what_is_absent_is_left_out() -> None:
    block = linear_block(3, 8, norm=no_norm(), activation=None)

    assert [type(layer) for layer in block] == [nn.Linear]


@pytest.mark.parametrize(("norm", "has_bias"), [(no_norm(), True), (batch_norm(), False), (group_norm(), True)])
def test_bias_is_dropped_where_the_norm_absorbs_it(norm: Norm, has_bias: bool) -> None:
    for block in (conv_block(3, 8, 3, norm=norm, activation=None), linear_block(3, 8, norm=norm, activation=None)):
        assert (block[0].bias is not None) == has_bias


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding", "size"),
    # (N - F + 2P) / S + 1, rounded down
    [(1, 1, None, 8), (3, 1, None, 8), (5, 1, None, 8), (3, 2, None, 4), (3, 1, 0, 6), (11, 4, 2, 1)],
)
def test_output_size(kernel_size: int, stride: int, padding: int | None, size: int) -> None:
    block = conv_block(2, 4, kernel_size, stride=stride, padding=padding, norm=no_norm(), activation=None)

    assert block(torch.zeros(1, 2, 8, 8)).shape == (1, 4, size, size)


@pytest.mark.parametrize(
    ("kernel_size", "padding", "size"), [((1, 7), None, (8, 8)), ((3, 1), None, (8, 8)), ((7, 1), (1, 0), (4, 8))]
)
def test_kernels_and_padding_may_be_oblong(
    kernel_size: tuple[int, int], padding: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    block = conv_block(2, 4, kernel_size, padding=padding, norm=no_norm(), activation=None)

    assert block[0].weight.shape == (4, 2, *kernel_size)
    assert block(torch.zeros(1, 2, 8, 8)).shape == (1, 4, *size)


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding", "out"),
    [(227, 11, 4, 0, 55), (55, 3, 2, 0, 27), (27, 5, 1, 2, 27), (27, 3, 2, 0, 13), (13, 3, 1, 1, 13), (13, 3, 2, 0, 6)],
)
def test_sizes_of_alexnet(size: int, kernel_size: int, stride: int, padding: int, out: int) -> None:
    with torch.device("meta"):
        block = conv_block(1, 1, kernel_size, stride=stride, padding=padding, norm=no_norm(), activation=None)

        assert block(torch.zeros(1, 1, size, size)).shape == (1, 1, out, out)


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 3, 0)])
def test_a_convolution_is_a_matrix_times_the_unfolded_image(kernel_size: int, stride: int, padding: int) -> None:
    torch.manual_seed(0)
    conv = conv_block(3, 4, kernel_size, stride=stride, padding=padding, norm=no_norm(), activation=None)
    x = torch.randn(2, 3, 9, 7)
    y = conv(x)

    columns = F.unfold(x, kernel_size, padding=padding, stride=stride)  # (N, fan-in, positions)
    product = conv[0].weight.flatten(1) @ columns + conv[0].bias[:, None]

    torch.testing.assert_close(y, product.view_as(y))


def support(kernel_sizes: list[int]) -> tuple[int, int]:
    """Height and width of the part of the input on which one output of stacked convolutions depends."""
    blocks = [conv_block(1, 1, size, norm=no_norm(), activation=None) for size in kernel_sizes]
    for block in blocks:
        nn.init.ones_(block[0].weight)
    image = torch.zeros(1, 1, 15, 15, requires_grad=True)
    (gradient,) = torch.autograd.grad(nn.Sequential(*blocks)(image)[0, 0, 7, 7], image)
    rows, columns = (gradient[0, 0].sum(axis).count_nonzero().item() for axis in (1, 0))
    return int(rows), int(columns)


def test_three_small_convolutions_see_what_a_large_one_sees_for_fewer_weights() -> None:
    """Simonyan and Zisserman 2014, arXiv:1409.1556, section 2.3: 27 C^2 against 49 C^2 weights."""

    def weights(kernel_size: int) -> int:
        return int(conv_block(16, 16, kernel_size, norm=batch_norm(), activation=None)[0].weight.numel())

    assert support([3, 3, 3]) == support([7]) == (7, 7)
    assert support([3, 3]) == (5, 5)
    assert (3 * weights(3), weights(7)) == (27 * 16**2, 49 * 16**2)


def test_a_1x1_convolution_mixes_the_channels_of_each_position() -> None:
    torch.manual_seed(0)
    block = conv_block(64, 32, 1, norm=no_norm(), activation=None)
    x = torch.randn(2, 64, 5, 4)

    assert block(x).shape == (2, 32, 5, 4)
    linear = F.linear(x.movedim(1, -1), block[0].weight[:, :, 0, 0], block[0].bias)
    torch.testing.assert_close(block(x), linear.movedim(-1, 1))


def test_a_grouped_convolution_is_its_paths_side_by_side() -> None:
    torch.manual_seed(0)
    block = conv_block(6, 4, 3, groups=2, norm=no_norm(), activation=None)
    x = torch.randn(2, 6, 5, 5)
    weight, bias = block[0].weight.chunk(2), block[0].bias.chunk(2)

    paths = [F.conv2d(part, w, b, padding=1) for part, w, b in zip(x.chunk(2, 1), weight, bias, strict=True)]

    torch.testing.assert_close(block(x), torch.cat(paths, 1))


def test_groups_divide_the_weights() -> None:
    block = conv_block(4, 8, 3, groups=2, norm=no_norm(), activation=None)

    assert block[0].weight.shape == (8, 2, 3, 3)


def test_maxout_gets_more_affine_maps_and_gives_the_features_asked_for() -> None:
    conv = conv_block(2, 4, 3, norm=batch_norm(), activation=maxout(pieces=3))
    linear = linear_block(2, 4, norm=batch_norm(), activation=maxout(pieces=3))
    tokens = linear_block(2, 4, norm=batch_norm(), activation=maxout(pieces=3), layout=Layout.TOKENS)

    assert conv[0].out_channels == conv[1].num_features == linear[0].out_features == linear[1].num_features == 12
    assert conv(torch.randn(2, 2, 8, 8)).shape == (2, 4, 8, 8)
    assert linear(torch.randn(2, 2)).shape == (2, 4)
    assert tokens(torch.randn(2, 5, 2)).shape == (2, 5, 4)


def test_the_end_of_a_branch_gives_the_pieces_and_leaves_the_activation() -> None:
    block = conv_block(2, 4, 3, norm=batch_norm(), activation=maxout(pieces=3), ends_branch=True)

    assert [type(layer) for layer in block] == [nn.Conv2d, nn.BatchNorm2d]
    assert block(torch.randn(2, 2, 8, 8)).shape == (2, 12, 8, 8)


def test_a_norm_is_told_features_layout_and_position() -> None:
    told: list[tuple[int, Place]] = []

    def layer(num_features: int, place: Place) -> nn.Module:
        told.append((num_features, place))
        return nn.Identity()

    norm = Norm(layer)
    conv_block(2, 4, 3, norm=norm, activation=maxout(pieces=3))
    conv_block(2, 4, 3, norm=norm, activation=relu(), ends_branch=True)
    linear_block(2, 4, norm=norm, activation=None)
    linear_block(2, 4, norm=norm, activation=relu(), layout=Layout.TOKENS)
    linear_block(2, 4, norm=Norm(layer, after_activation=True), activation=maxout(pieces=3))

    assert told == [
        (12, Place(Layout.MAPS, Position.BEFORE_ACTIVATION)),
        (4, Place(Layout.MAPS, Position.BRANCH_END)),
        (4, Place(Layout.VECTORS, Position.NO_ACTIVATION)),
        (4, Place(Layout.TOKENS, Position.BEFORE_ACTIVATION)),
        (4, Place(Layout.VECTORS, Position.AFTER_ACTIVATION)),
    ]


def test_a_norm_may_follow_the_activation() -> None:
    """As in Krizhevsky et al. 2012, section 3.3: local response normalization after the ReLU."""
    block = conv_block(2, 4, 3, norm=local_response_norm(), activation=relu())

    assert block[0].bias is not None
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = F.local_response_norm(F.conv2d(x, block[0].weight, block[0].bias, padding=1).relu(), 5, alpha=5e-4, k=2)
    torch.testing.assert_close(block(x), expected)


def test_weight_normalization_wraps_the_affine_map() -> None:
    block = conv_block(2, 4, 3, norm=weight_norm(), activation=relu())

    assert [name for name, _ in block[0].named_parameters()] == [
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]


def test_norm_and_activation_before_the_convolution() -> None:
    block = pre_conv_block(3, 8, 3, norm=batch_norm(), activation=relu())

    assert [name for name, _ in block.named_children()] == ["norm", "activation", "affine"]
    x = torch.randn(2, 3, 4, 4)
    expected = F.conv2d(F.batch_norm(x, None, None, training=True).relu(), block[2].weight, padding=1)
    torch.testing.assert_close(block(x), expected)


def test_before_the_convolution_too_a_norm_may_follow_the_activation() -> None:
    local_response = Norm(lambda num_features, place: nn.LocalResponseNorm(5), after_activation=True)

    block = pre_conv_block(2, 4, 3, norm=local_response, activation=relu())

    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = F.conv2d(F.local_response_norm(x.relu(), 5), block[-1].weight, block[-1].bias, padding=1)
    torch.testing.assert_close(block(x), expected)


def test_maps_before_an_activation_of_pieces_carry_them() -> None:
    """A chain: the first map has 2 x 3 channels, the second 2 x 8; what ends the chain gives one value of each feature."""
    block = pre_conv_block(3, 8, 3, norm=batch_norm(), activation=maxout(pieces=2))
    end = pre_activated(8, Layout.MAPS, norm=batch_norm(), activation=maxout(pieces=2))

    x = block(torch.randn(2, 6, 4, 4))

    assert x.shape == (2, 16, 4, 4)
    normalized = F.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(end(x), torch.maximum(normalized[:, :8], normalized[:, 8:]))


def test_the_pieces_of_a_feature_come_from_its_own_group() -> None:
    """Depthwise: feature f of the result depends on channel f of the input alone."""
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    depthwise = conv_block(4, 4, 3, groups=4, norm=no_norm(), activation=maxout(pieces=2))
    before = pre_conv_block(4, 4, 3, groups=4, norm=no_norm(), activation=maxout(pieces=2))

    for out in (depthwise(x), maxout(pieces=2).layer(4, Layout.MAPS)(before(x.repeat(1, 2, 1, 1)))):
        (gradient,) = torch.autograd.grad(out[:, 1].sum(), x)
        assert gradient.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == [1]


def test_grouped_pieces_keep_the_weights_of_torch() -> None:
    """Group by group, the same as the convolutions of its paths, each with its own pieces."""
    block = conv_block(4, 6, 1, groups=2, norm=no_norm(), activation=maxout(pieces=3))
    conv = block[0].get_submodule("conv")
    x = torch.randn(2, 4, 3, 3)

    paths = [
        F.conv2d(x[:, 2 * g : 2 * g + 2], conv.weight[9 * g : 9 * g + 9], conv.bias[9 * g : 9 * g + 9])
        for g in (0, 1)  # type: ignore[index]
    ]

    expected = torch.cat([path.unflatten(1, (3, 3)).amax(1) for path in paths], 1)
    torch.testing.assert_close(block(x), expected)


def test_the_bias_of_a_convolution_has_no_effect_where_its_readers_absorb_it() -> None:
    """He et al. 2016, arXiv:1603.05027, figure 1b: what a unit adds to the stream is normalized by whoever reads it."""
    conv, reader = nn.Conv2d(2, 4, 3), pre_activated(4, Layout.MAPS, norm=batch_norm(), activation=relu())
    x = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(reader(F.conv2d(x, conv.weight)), reader(conv(x)))
    assert unread_conv(2, 4, 3, norm=batch_norm(), activation=relu()).bias is None
    assert unread_conv(2, 4, 3, norm=group_norm(), activation=relu()).bias is not None


def test_a_convolution_alone_gives_pieces_and_is_wrapped() -> None:
    conv = unread_conv(2, 4, 3, stride=2, norm=weight_norm(), activation=maxout(pieces=3))

    assert conv(torch.zeros(1, 2, 8, 8)).shape == (1, 12, 4, 4)
    assert "parametrizations.weight.original0" in dict(conv.named_parameters())
