"""SqueezeNet against its paper and torchvision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import models
from models import checks, foreign
from models.layers.activation import leaky_relu, relu, tanh
from models.layers.norm import batch_norm, no_norm
from models.squeezenet import Fire, squeezenet
from tests.models.oracle import assert_same

NAMES = ("squeezenet1_0", "squeezenet1_1")


def small(name: str = "squeezenet1_1", **own: Any) -> nn.Module:
    """A narrow network for images of 32x32."""
    settings: dict[str, Any] = {"stem": "cifar", "width": 0.25} | own
    return models.create(name, num_classes=10, in_channels=3, image_size=(32, 32), **settings)


def kinds(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, kind)]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_fire2_of_the_paper() -> None:
    """96*16 + 16 + 16*64 + 64 + 9*16*64 + 64 = 11,920."""
    model = models.create("squeezenet1_0", num_classes=1000, in_channels=3, image_size=(224, 224))

    assert parameters(model.get_submodule("stage1.fire1")) == 11_920


def test_fire_puts_both_expansions_side_by_side() -> None:
    fire = Fire(6, 2, 8, norm=no_norm(), activation=relu())
    x = torch.randn(2, 6, 5, 5)

    squeezed = fire.squeeze(x)
    both = fire(x)

    assert both.shape == (2, 8, 5, 5)
    assert torch.equal(both[:, :4], fire.expand1x1(squeezed))
    assert torch.equal(both[:, 4:], fire.expand3x3(squeezed))


@pytest.mark.parametrize(
    ("name", "total"),
    # 1.0: param_oracle.csv of the lectures; 1.1: torchvision's documentation.
    [("squeezenet1_0", 1_248_424), ("squeezenet1_1", 1_235_496)],
)
def test_parameter_totals(name: str, total: int) -> None:
    with torch.device("meta"):
        assert parameters(models.create(name, num_classes=1000, in_channels=3, image_size=(224, 224))) == total


def test_channels_of_the_paper() -> None:
    """Table 1: squeezed 16, 16, 32, 32, 48, 48, 64, 64; each expansion has four times as many."""
    model = models.create("squeezenet1_0", num_classes=10, in_channels=3, image_size=(32, 32))

    fires: list[Any] = [model.get_submodule(path) for path in kinds(model, Fire)]
    assert [fire.squeeze.affine.out_channels for fire in fires] == [16, 16, 32, 32, 48, 48, 64, 64]
    for fire in fires:
        assert fire.expand1x1.affine.out_channels == 4 * fire.squeeze.affine.out_channels
        assert fire.expand3x3.affine.out_channels == 4 * fire.squeeze.affine.out_channels


@pytest.mark.parametrize("name", NAMES)
def test_equals_torchvision(name: str) -> None:
    import torchvision

    ours = models.create(name, num_classes=10, in_channels=3, image_size=(70, 70))
    theirs = torchvision.models.get_model(name, num_classes=10)

    assert_same(ours, theirs, foreign.tables(squeezenet)["torchvision"], 70)


def test_own_norm_and_activation_named_explicitly_change_nothing() -> None:
    torch.manual_seed(0)
    default = small().eval()
    torch.manual_seed(0)
    named = small(norm=no_norm(), activation=relu()).eval()
    images = torch.randn(2, 3, 32, 32)

    assert torch.equal(named(images), default(images))


def test_norm_is_in_every_convolution_but_the_classifier() -> None:
    model = small(norm=batch_norm())

    assert len(kinds(model, nn.BatchNorm2d)) == 25
    without_bias = [path for path in kinds(model, nn.Conv2d) if model.get_submodule(path).bias is None]
    assert len(without_bias) == 25
    assert kinds(model, nn.Conv2d)[-1] == "classifier.affine"
    assert "classifier.affine" not in without_bias


def test_activation_is_in_every_layer_but_the_classifier() -> None:
    model = small(activation=leaky_relu())

    assert len(kinds(model, nn.LeakyReLU)) == 25
    assert kinds(model, nn.ReLU) == ["classifier.activation"]


def test_logits_are_means_of_rectified_maps_whatever_the_activation() -> None:
    model = small(activation=tanh()).eval()
    classifier: Any = model.get_submodule("classifier")
    with torch.no_grad():
        classifier.affine.bias.fill_(3.0)
        features = torch.randn(2, 128, 4, 4)
        expected = classifier.affine(features).clamp(min=0).mean((2, 3))

        torch.testing.assert_close(classifier(features), expected)
    assert float(expected.max()) > 1


def test_parts() -> None:
    parts = ("stem", "stage1", "stage2", "stage3")

    assert small().parts == (*parts, "dropout", "classifier")
    assert small(dropout=0.0).parts == (*parts, "classifier")
    assert small(dropout=0.3).get_submodule("dropout").p == 0.3


def test_stem_for_small_images_keeps_their_size() -> None:
    model = small()
    first: Any = model.get_submodule("stem.affine")

    assert (first.kernel_size, first.stride, first.padding) == ((3, 3), (1, 1), (1, 1))
    assert kinds(model, nn.MaxPool2d) == ["stage2.pool", "stage3.pool"]
    assert kinds(small(stem="imagenet"), nn.MaxPool2d) == ["stage1.pool", "stage2.pool", "stage3.pool"]


def test_squeeze_ratio_changes_what_is_squeezed_alone() -> None:
    model = small(width=1.0, squeeze_ratio=0.75)

    fire: Any = model.get_submodule("stage1.fire1")
    assert fire.squeeze.affine.out_channels == 96
    assert fire.expand3x3.affine.out_channels == 64


def test_width_is_a_factor_on_all_channels() -> None:
    fires: list[Any] = [module for module in small(width=0.5).modules() if isinstance(module, Fire)]

    assert small(width=0.5).get_submodule("stem.affine").out_channels == 32
    assert [fire.squeeze.affine.out_channels for fire in fires] == [8, 8, 16, 16, 24, 24, 32, 32]
    assert [fire.expand1x1.affine.out_channels for fire in fires] == [32, 32, 64, 64, 96, 96, 128, 128]


@pytest.mark.parametrize(
    ("name", "stem", "minimum"),
    # The two of the stem for large images are those that torchvision gives.
    [
        ("squeezenet1_0", "imagenet", 21),
        ("squeezenet1_1", "imagenet", 17),
        (NAMES[0], "cifar", 4),
        (NAMES[1], "cifar", 4),
    ],
)
def test_smallest_image(name: str, stem: str, minimum: int) -> None:
    """Two of them are enough for batch normalization in training; one pixel less leaves a pooling without positions."""
    own: dict[str, Any] = {"num_classes": 4, "in_channels": 3, "stem": stem, "width": 0.25, "norm": batch_norm()}
    model = models.create(name, image_size=(minimum, minimum + 9), **own)
    assert model.train()(torch.randn(2, 3, minimum, minimum + 9)).shape == (2, 4)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        model.eval()(torch.zeros(2, 3, minimum - 1, minimum - 1))

    with pytest.raises(checks.ImageTooSmallError, match=f"needs at least {minimum}x{minimum} images, got") as refused:
        models.create(name, image_size=(minimum + 1, minimum - 1), **own)
    assert refused.value.minimum == minimum


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"stem": "tiny"}, "stem must be one of imagenet, cifar, got tiny"),
        ({"stem_channels": 0}, "stem_channels must be at least 1, got 0"),
        ({"stem_kernel": 0}, "stem_kernel must be at least 1, got 0"),
        ({"fires": []}, r"fires must be one or more numbers of at least 1, got \[\]"),
        ({"fires": [1, 0]}, r"fires must be one or more numbers of at least 1, got \[1, 0\]"),
        ({"squeeze_ratio": 0.0}, r"squeeze_ratio must be in \(0, 1\], got 0.0"),
        ({"squeeze_ratio": 1.5}, r"squeeze_ratio must be in \(0, 1\], got 1.5"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
    ],
)
def test_arguments_are_checked(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**own)
