"""The block builder: order, bias, sizes, and norms and activations that change the convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from models.layers.activation import Activation, relu
from models.layers.block import conv_block, linear_block
from models.layers.norm import Norm, batch_norm, group_norm, no_norm


def test_affine_then_norm_then_activation() -> None:
    block = conv_block(3, 8, 3, norm=group_norm(num_groups=4), activation=relu())

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


def test_groups_divide_the_weights() -> None:
    block = conv_block(4, 8, 3, groups=2, norm=no_norm(), activation=None)

    assert block[0].weight.shape == (8, 2, 3, 3)


class _Maxout(nn.Module):
    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, self.num_features, *x.shape[2:]).amax(1)


def test_maxout_gets_more_affine_maps_and_gives_the_features_asked_for() -> None:
    maxout = Activation(_Maxout, pieces=3)

    conv = conv_block(2, 4, 3, norm=batch_norm(), activation=maxout)
    linear = linear_block(2, 4, norm=batch_norm(), activation=maxout)

    assert conv[0].out_channels == conv[1].num_features == linear[0].out_features == linear[1].num_features == 12
    assert conv(torch.randn(2, 2, 8, 8)).shape == (2, 4, 8, 8)
    assert linear(torch.randn(2, 2)).shape == (2, 4)


def test_weight_normalization_wraps_the_affine_map() -> None:
    norm = Norm(no_norm().layer, wrap=weight_norm)

    block = conv_block(2, 4, 3, norm=norm, activation=relu())

    assert [name for name, _ in block[0].named_parameters()] == [
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]
