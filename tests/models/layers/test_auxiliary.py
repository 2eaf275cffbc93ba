"""Auxiliary classifiers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.activation import relu
from models.layers.auxiliary import auxiliary_head
from models.layers.norm import batch_norm, instance_norm, no_norm


def test_sizes_of_the_paper() -> None:
    """Szegedy et al. 2014, section 5: 4x4x512 after the pooling of 4a, 128 filters, 1024 units, dropout of 0.7."""
    head = auxiliary_head(512, 1000, (14, 14), norm=no_norm(), activation=relu())

    x, shapes = torch.zeros(2, 512, 14, 14), {}
    for name, layer in head.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes == {
        "pool": (512, 4, 4),
        "conv": (128, 4, 4),
        "flatten": (2048,),
        "hidden": (1024,),
        "dropout": (1024,),
        "classifier": (1000,),
    }
    by_hand = (512 * 128 + 128) + (2048 * 1024 + 1024) + (1024 * 1000 + 1000)
    assert sum(parameter.numel() for parameter in head.parameters()) == by_hand
    assert [module.p for module in head.modules() if isinstance(module, nn.Dropout)] == [0.7]


@pytest.mark.parametrize(
    ("size", "inputs"), [((5, 5), 1), ((8, 8), 4), ((8, 11), 6), ((16, 16), 16), ((4, 4), 1), ((1, 9), 1)]
)
def test_pooling_follows_the_size_and_small_maps_are_averaged(size: tuple[int, int], inputs: int) -> None:
    head = auxiliary_head(6, 10, size, norm=no_norm(), activation=relu(), width=1 / 16)

    assert head.get_submodule("hidden.affine").in_features == 8 * inputs
    assert head(torch.zeros(2, 6, *size)).shape == (2, 10)


@pytest.mark.parametrize("size", [(14, 14), (3, 20)])
def test_grid_has_the_same_weights_at_every_size(size: tuple[int, int]) -> None:
    head = auxiliary_head(6, 10, size, norm=no_norm(), activation=relu(), grid=4)

    assert head.get_submodule("hidden.affine").in_features == 2048
    assert head(torch.zeros(2, 6, *size)).shape == (2, 10)


def test_normalization_of_small_maps_sees_all_positions() -> None:
    head = auxiliary_head(6, 10, (4, 4), norm=instance_norm(), activation=relu())

    assert [name for name, _ in head.named_children()][:2] == ["conv", "mean"]
    assert head(torch.randn(2, 6, 4, 4)).isfinite().all()


def test_normalization_follows_the_convolution_only() -> None:
    head = auxiliary_head(6, 10, (5, 5), norm=batch_norm(), activation=relu())

    assert [name for name, module in head.named_modules() if isinstance(module, nn.BatchNorm2d)] == ["conv.norm"]
    assert not any(isinstance(module, nn.BatchNorm1d) for module in head.modules())
    assert head.get_submodule("hidden.affine").bias is not None


def test_dropout_is_checked_and_left_out_at_0() -> None:
    head = auxiliary_head(6, 10, (5, 5), norm=no_norm(), activation=relu(), dropout=0)

    assert not any(isinstance(module, nn.Dropout) for module in head.modules())
    with pytest.raises(ValueError, match=r"aux_dropout must be in \[0, 1\), got 1"):
        auxiliary_head(6, 10, (5, 5), norm=no_norm(), activation=relu(), dropout=1)
