"""The plain networks: the residual ones without their shortcuts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models.checks import ImageTooSmallError
from models.foreign import by_rules
from models.layers.residual import Residual
from models.plain import plain, plain_cifar
from tests.models.oracle import assert_same

TORCHVISION = by_rules(
    (r"stem\.affine\.(.*)", r"conv1.\1"),
    (r"stem\.norm\.(.*)", r"bn1.\1"),
    (r"stage(\d+\.\d+)\.(\d)\.affine\.(.*)", lambda m: f"layer{m[1]}.conv{int(m[2]) + 1}.{m[3]}"),
    (r"stage(\d+\.\d+)\.(\d)\.norm\.(.*)", lambda m: f"layer{m[1]}.bn{int(m[2]) + 1}.{m[3]}"),
    (r"classifier\.(.*)", r"fc.\1"),
)


@pytest.mark.parametrize("blocks", [(1, 2, 1, 1), pytest.param((3, 4, 6, 3), marks=pytest.mark.slow)])
def test_equals_torchvisions_resnet_with_its_shortcuts_cut(blocks: tuple[int, ...]) -> None:
    from torchvision.models.resnet import BasicBlock, ResNet

    class Plain(BasicBlock):
        def forward(self, x: Tensor) -> Tensor:
            out = self.bn1(self.conv1(x)).relu()
            return self.bn2(self.conv2(out)).relu()  # type: ignore[no-any-return]

    theirs = ResNet(Plain, list(blocks), num_classes=10)
    ours = plain(num_classes=10, in_channels=3, image_size=(32, 32), blocks=blocks)

    assert_same(ours, theirs, TORCHVISION, 32, leave_out=tuple(f"layer{stage}.0.downsample" for stage in (2, 3, 4)))


@pytest.mark.parametrize("name", ["plain18", "plain34", "plain20", "plain56"])
def test_layers_are_those_of_the_residual_network(name: str) -> None:
    """With option A, whose shortcuts have no parameters."""
    with torch.device("meta"):
        ours, residual = (
            models.create(each, num_classes=10, in_channels=3, image_size=(32, 32), **own)
            for each, own in ((name, {}), (name.replace("plain", "resnet"), {"shortcut": "A"}))
        )

    assert [tensor.shape for tensor in ours.parameters()] == [tensor.shape for tensor in residual.parameters()]
    assert not any(isinstance(module, Residual) for module in ours.modules())
    assert any(isinstance(module, Residual) for module in residual.modules())


def test_there_is_no_way_around_a_unit() -> None:
    """One convolution of zeros, and nothing of the image reaches the logits; a residual network's pass on."""
    for function, passes in ((plain_cifar, False), (models.resnet.resnet_cifar, True)):
        torch.manual_seed(0)
        model = function(num_classes=3, in_channels=1, image_size=(8, 8), depth=8).eval()  # type: ignore[operator]
        nn.init.zeros_(model.get_submodule("stage2.0").get_parameter(("branch." if passes else "") + "0.affine.weight"))
        nn.init.zeros_(model.get_submodule("stage2.0").get_parameter(("branch." if passes else "") + "0.norm.bias"))

        first, second = model(torch.randn(2, 1, 8, 8))

        assert torch.equal(first, second) != passes


@pytest.mark.parametrize("depth", [8, 20])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    with torch.device("meta"):
        model = plain_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=depth)

    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"shortcut": "A"}, "plain18 takes no shortcut: a plain network has none"),
        ({"survival": 0.5}, "plain18 takes no survival: without shortcuts nothing can be left out"),
        ({"width": -1.0}, "width must be positive and finite, got -1.0"),
        ({"blocks": []}, "blocks must be one or more numbers of units"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_refusals(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create("plain18", num_classes=3, in_channels=3, image_size=(32, 32), **own)


def test_smallest_images_dropout_and_stem() -> None:
    model = plain(num_classes=3, in_channels=3, image_size=(32, 32), width=0.125, dropout=0.3)

    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    assert model.get_submodule("dropout").p == 0.3
    with pytest.raises(ImageTooSmallError, match="plain needs at least 32x32 images, got 31x40"):
        plain(num_classes=3, in_channels=3, image_size=(31, 40))
    with pytest.raises(ImageTooSmallError, match="plain_cifar needs at least 8x8 images, got 7x7"):
        plain_cifar(num_classes=3, in_channels=3, image_size=(7, 7))
    stem = plain_cifar(num_classes=3, in_channels=3, image_size=(32, 32), stem="imagenet").get_submodule("stem")
    assert stem(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 8, 8)
