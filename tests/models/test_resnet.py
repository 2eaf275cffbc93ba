"""The CIFAR residual networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.residual import Residual
from models.resnet import blocks_of_depth, resnet_cifar


@pytest.mark.parametrize(("depth", "total"), [(20, 269_722), (56, 853_018)])
def test_parameter_totals_of_the_paper(depth: int, total: int) -> None:
    """Worked out from He et al. 2015, section 4.2 (0.27M and 0.85M in its table 6): option A, affine batch norm."""
    with torch.device("meta"):
        model = resnet_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=depth)

    assert sum(parameter.numel() for parameter in model.parameters()) == total


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    with torch.device("meta"):
        model = resnet_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=depth)

    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


def test_stages_double_the_channels_and_halve_the_image() -> None:
    model = resnet_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=8, width=4)

    x = torch.zeros(1, 3, 32, 32)
    shapes = {}
    for name, layer in model.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes["stem"] == shapes["stage1"] == (4, 32, 32)
    assert shapes["stage2"] == (8, 16, 16)
    assert shapes["stage3"] == (16, 8, 8)


def test_width_scales_all_stages() -> None:
    model = resnet_cifar(num_classes=10, in_channels=3, image_size=(8, 8), depth=8, width=32)

    assert model.get_submodule("classifier").in_features == 128


def test_odd_and_oblong_images() -> None:
    model = resnet_cifar(num_classes=3, in_channels=1, image_size=(9, 15), depth=8, width=4)

    assert model(torch.zeros(2, 1, 9, 15)).shape == (2, 3)


def test_each_block_is_marked_as_residual() -> None:
    model = resnet_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=20, width=4)

    assert sum(isinstance(module, Residual) for module in model.modules()) == 9


@pytest.mark.parametrize("depth", [8, 14, 20, 110, 1202])
def test_depths_of_the_form_6n_plus_2(depth: int) -> None:
    assert 6 * blocks_of_depth(depth) + 2 == depth


@pytest.mark.parametrize(
    ("depth", "nearest"), [(21, "20 and 26"), (19, "14 and 20"), (9, "8 and 14"), (7, "8"), (2, "8"), (-4, "8")]
)
def test_other_depths_are_refused_with_the_nearest(depth: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 6n\+2 \(8, 14, 20, ...\), got {depth}; nearest: {nearest}$"):
        resnet_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=depth)


def test_too_small_image_is_refused() -> None:
    with pytest.raises(ValueError, match="resnet_cifar needs at least 8x8 images, got 4x8"):
        resnet_cifar(num_classes=10, in_channels=3, image_size=(4, 8))


def test_width_is_checked() -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        resnet_cifar(num_classes=10, in_channels=3, image_size=(8, 8), width=0)
