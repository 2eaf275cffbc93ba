"""The wide residual networks for CIFAR."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.checks import ImageTooSmallError
from models.layers.residual import Residual
from models.wide_resnet import wrn
from tests.models.oracle import make_general

small = partial(wrn, num_classes=3, in_channels=3, image_size=(9, 9), depth=10, widening_factor=2, width=4)


@pytest.mark.parametrize(
    ("name", "depth", "k", "millions"), [("wrn_16_4", 16, 4, 2.7), ("wrn_28_10", 28, 10, 36.5), ("wrn", 40, 4, 8.9)]
)
def test_parameter_totals_of_the_paper(name: str, depth: int, k: int, millions: float) -> None:
    """Zagoruyko and Komodakis 2016, tables 4 and 5; and summed by hand, n units a stage."""
    with torch.device("meta"):
        model = models.create(name, num_classes=10, in_channels=3, image_size=(32, 32), depth=depth, widening_factor=k)

    total, channels, n = 27 * 16, 16, (depth - 4) // 6
    for out in (16 * k, 32 * k, 64 * k):
        total += 2 * channels + 9 * channels * out + 2 * out + 9 * out * out + channels * out
        total += (n - 1) * 2 * (2 * out + 9 * out * out)
        channels = out
    total += 2 * channels + 10 * channels + 10
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    assert abs(total / 1e6 - millions) < 0.06


@pytest.mark.parametrize("depth", [10, 16, 28])
def test_depth_counts_the_convolutions(depth: int) -> None:
    with torch.device("meta"):
        model = small(depth=depth)

    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == depth


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """One unit a stage, each with a projection of what it normalizes and activates; in evaluation."""

    def norm_relu(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias).relu()

    x = F.conv2d(x, state["stem.affine.weight"], padding=1)
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        unit = f"stage{stage}.0"
        x = norm_relu(f"{unit}.pre.norm", x)
        f = F.conv2d(x, state[f"{unit}.residual.branch.conv1.affine.weight"], padding=1, stride=stride)
        f = norm_relu(f"{unit}.residual.branch.conv1.norm", f)
        f = F.conv2d(f, state[f"{unit}.residual.branch.conv2.weight"], padding=1)
        x = F.conv2d(x, state[f"{unit}.residual.shortcut.weight"], stride=stride) + f
    return F.linear(norm_relu("activated.norm", x).mean((2, 3)), state["classifier.weight"], state["classifier.bias"])


def test_the_form_of_the_paper() -> None:
    model = small(dropout=0.3).double().eval()
    make_general(model)
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64)

    with torch.no_grad():
        torch.testing.assert_close(model(x), reference(model.state_dict(), x))


def test_dropout_is_between_the_convolutions_of_each_unit() -> None:
    model = small(dropout=0.3, depth=16)

    branches = [module.branch for module in model.modules() if isinstance(module, Residual)]
    for branch in branches:
        names = [name for name, _ in branch.named_children() if name != "pre"]
        assert names == ["conv1", "dropout", "conv2"]
        assert branch.get_submodule("dropout").p == 0.3
    assert len(branches) == 6
    assert "dropout" not in model.parts
    assert not any(isinstance(module, nn.Dropout) for module in small().modules())


def test_a_factor_of_one_needs_no_projection_in_the_first_stage() -> None:
    model = small(widening_factor=1)

    assert isinstance(model.get_submodule("stage1.0").shortcut, nn.Identity)
    assert isinstance(model.get_submodule("stage2.0.residual").shortcut, nn.Conv2d)


def test_smallest_images() -> None:
    assert small(image_size=(8, 8))(torch.randn(2, 3, 8, 8)).shape == (2, 3)
    with pytest.raises(ImageTooSmallError, match="wrn needs at least 8x8 images, got 8x7"):
        small(image_size=(8, 7))
    with pytest.raises(ImageTooSmallError, match="wrn needs at least 32x32 images, got 31x31"):
        small(image_size=(31, 31), stem="imagenet")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"depth": 68}, r"depth must be 6n\+4 \(10, 16, 22, ...\), got 68; nearest: 64 and 70"),
        ({"widening_factor": 0}, "widening_factor must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"survival": 0.0}, r"survival must be in \(0, 1\], got 0.0"),
        ({"stem": "digits"}, "stem must be one of imagenet, cifar, got digits"),
    ],
)
def test_values_are_checked(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**own)
