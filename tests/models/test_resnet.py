"""The residual networks for ImageNet and for CIFAR, and those that differ from them in numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import models
from models.checks import ImageTooSmallError, RefusedError
from models.layers.norm import batch_norm
from models.layers.residual import Residual, ZeroPadShortcut
from models.layers.units import blocks_of_depth
from models.resnet import resnet, resnet_cifar


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def on_meta(name: str, size: int = 224, num_classes: int = 1000, **own: Any) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, num_classes=num_classes, in_channels=3, image_size=(size, size), **own)


def small(**own: Any) -> nn.Module:
    """A network of 16 channels for 8x8 images."""
    torch.manual_seed(0)
    values = {"blocks": (1,), "stem": "cifar", "width": 0.25} | own
    return resnet(num_classes=3, in_channels=3, image_size=(8, 8), **values)


@pytest.mark.parametrize(
    ("shortcut", "total"),
    [
        ("A", 269_722),
        # a 1x1 convolution and two parameters of a normalization at the beginning of stages 2 and 3
        ("B", 269_722 + (16 * 32 + 64) + (32 * 64 + 128)),
        # and in each other of the three units of the three stages
        ("C", 269_722 + (16 * 32 + 64) + (32 * 64 + 128) + 3 * (16**2 + 32) + 2 * (32**2 + 64) + 2 * (64**2 + 128)),
    ],
)
def test_options_of_the_shortcut(shortcut: str, total: int) -> None:
    model = on_meta("resnet20", 32, 10, shortcut=shortcut)

    assert count(model) == total
    pads = sum(isinstance(module, ZeroPadShortcut) for module in model.modules())
    assert pads == (2 if shortcut == "A" else 0)


def test_option_a_for_imagenet_has_no_parameters_in_its_shortcuts() -> None:
    model = on_meta("resnet34", shortcut="A")

    assert not [name for name, _ in model.named_parameters() if "shortcut" in name]


def test_stems() -> None:
    imagenet, cifar = (small(stem=stem, blocks=(1, 1)).get_submodule("stem") for stem in ("imagenet", "cifar"))

    images = torch.zeros(1, 3, 64, 64)
    assert imagenet(images).shape == (1, 16, 16, 16)
    assert cifar(images).shape == (1, 16, 64, 64)


def test_width_is_a_factor_of_all_channels() -> None:
    half, whole = (on_meta("resnet50", width=width) for width in (0.5, 1.0))

    wide = {name: module.out_channels for name, module in whole.named_modules() if isinstance(module, nn.Conv2d)}
    for name, module in half.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.out_channels * 2 == wide[name]


@pytest.mark.parametrize("width", [0.1, 0.3, 1.7])
def test_groups_divide_the_channels_at_any_width(width: float) -> None:
    middle = on_meta("resnext50_32x4d", width=width).get_submodule("stage1.0.branch.1.affine")

    assert middle.groups == 32
    assert middle.out_channels % 32 == 0


def test_dropout_is_before_the_classifier() -> None:
    for model in (
        small(dropout=0.5),
        resnet_cifar(num_classes=3, in_channels=3, image_size=(8, 8), depth=8, dropout=0.5),
    ):
        assert isinstance(model, models.network.Network)
        assert model.parts[-2:] == ("dropout", "classifier")
        assert model.get_submodule("dropout").p == 0.5


def test_smallest_images_fill_what_one_position_of_the_last_map_stands_for() -> None:
    model = on_small_images(32, "imagenet")

    assert model.get_submodule("stage4")  # 32 = 2 (stem) * 2 (pool) * 2 * 2 * 2
    last = torch.zeros(2, 3, 32, 32)
    for name in ("stem", "stage1", "stage2", "stage3", "stage4"):
        last = model.get_submodule(name)(last)
    assert last.shape[2:] == (1, 1)
    for size, stem, least in ((31, "imagenet", 32), (7, "cifar", 8)):
        with pytest.raises(
            ImageTooSmallError, match=f"resnet needs at least {least}x{least} images, got {size}x{size}"
        ) as e:
            on_small_images(size, stem)
        assert e.value.minimum == least


def on_small_images(size: int, stem: str) -> nn.Module:
    return resnet(num_classes=3, in_channels=3, image_size=(size, size), stem=stem, width=0.125)  # type: ignore[arg-type]


def test_the_own_norm_and_activation_named_explicitly_give_the_same_network() -> None:
    torch.manual_seed(0)
    own = resnet(num_classes=3, in_channels=3, image_size=(32, 32), width=0.125)
    torch.manual_seed(0)
    named = resnet(
        num_classes=3,
        in_channels=3,
        image_size=(32, 32),
        width=0.125,
        norm=batch_norm(),
        activation=models.layers.activation.relu(),
    )
    x = torch.randn(2, 3, 32, 32)

    assert torch.equal(own(x), named(x))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"blocks": ()}, r"blocks must be one or more numbers of units, each at least 1, got \[\]"),
        ({"blocks": (1, 0)}, r"got \[1, 0\]"),
        ({"unit": "wide"}, "unit must be one of basic, bottleneck, got wide"),
        ({"shortcut": "D"}, "shortcut must be one of A, B, C, got D"),
        ({"unit": "bottleneck", "stride_in": "last"}, "stride_in must be one of None, first, middle, got last"),
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"width_per_group": 0}, "width_per_group must be at least 1, got 0"),
        ({"se_reduction": 0}, "se_reduction must be at least 1, got 0"),
        ({"survival": 0.0}, r"survival must be in \(0, 1\], got 0.0"),
        ({"decay": "cosine"}, "decay must be one of linear, constant, got cosine"),
        ({"stem": "digits"}, "stem must be one of imagenet, cifar, got digits"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
    ],
)
def test_values_are_checked(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resnet(num_classes=3, in_channels=3, image_size=(32, 32), **own)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"stride_in": "middle"}, "stride_in=middle needs unit=bottleneck: of two convolutions none is the middle one"),
        ({"groups": 2}, "groups and width_per_group need unit=bottleneck, .*; got 2 and 64"),
        ({"width_per_group": 128}, "groups and width_per_group need unit=bottleneck, .*; got 1 and 128"),
    ],
)
def test_what_makes_no_sense_for_basic_units_is_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        resnet(num_classes=3, in_channels=3, image_size=(32, 32), unit="basic", **own)


def test_names_of_the_weights_of_recorded_sweeps() -> None:
    model = resnet_cifar(num_classes=10, in_channels=3, image_size=(8, 8), depth=8)

    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    blocks = ["stem", *(f"stage{stage}.0.branch.{index}" for stage in (1, 2, 3) for index in (0, 1))]
    names = [f"{block}.{key}" for block in blocks for key in ("affine.weight", *(f"norm.{each}" for each in norm))]
    assert list(model.state_dict()) == [*names, "classifier.weight", "classifier.bias"]


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
