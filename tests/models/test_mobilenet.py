"""The MobileNets against torchvision, timm and the totals of their papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import models
from models import foreign, mobilenet
from models.checks import ImageTooSmallError
from models.layers.activation import Activation, hardswish, relu, relu6, silu
from models.layers.norm import Norm, batch_norm, no_norm
from models.layers.residual import Residual
from models.network import part_names
from tests.models.oracle import assert_same

NAMES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def create(name: str, size: int = 32, **own: Any) -> nn.Module:
    return models.create(name, num_classes=own.pop("num_classes", 10), in_channels=3, image_size=(size, size), **own)


@pytest.mark.slow
@pytest.mark.parametrize(("foreign_name", "width"), [("mobilenetv1_100", 1.0), ("mobilenetv1_125", 1.25)])
def test_v1_equals_timm(foreign_name: str, width: float) -> None:
    """timm has ReLU6, as the authors' code; the paper has ReLU."""
    import timm

    theirs = timm.create_model(foreign_name, num_classes=10)

    table = foreign.tables(mobilenet.mobilenet_v1)["timm"]
    assert_same(create("mobilenet_v1", activation=relu6(), width=width), theirs, table, 48)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"])
@pytest.mark.parametrize("width", [0.75, 1.0, 1.4])
def test_v2_and_v3_equal_torchvision(name: str, width: float) -> None:
    assert_equals_torchvision(name, width)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
def test_narrow_v2_and_v3_equal_torchvision(name: str) -> None:
    assert_equals_torchvision(name, 0.35)


def assert_equals_torchvision(name: str, width: float) -> None:
    import torchvision

    theirs = getattr(torchvision.models, name)(num_classes=10, width_mult=width)

    function = getattr(mobilenet, name.removesuffix("_small").removesuffix("_large"))
    assert_same(create(name, width=width), theirs, foreign.tables(function)["torchvision"], 32)


@pytest.mark.parametrize(
    ("name", "width", "total"),
    [
        # Counted by hand in table 1; 4.2M, 1.3M and 0.5M in tables 6 and 8 of the paper.
        ("mobilenet_v1", 1.0, 4_231_976),
        ("mobilenet_v1", 0.5, 1_331_592),
        ("mobilenet_v1", 0.25, 470_072),
        # The documentation of torchvision; 3.4M, 5.4M and 2.5M (2.9M in the first version) in the papers.
        ("mobilenet_v2", 1.0, 3_504_872),
        ("mobilenet_v3_large", 1.0, 5_483_032),
        ("mobilenet_v3_small", 1.0, 2_542_856),
    ],
)
def test_parameter_totals(name: str, width: float, total: int) -> None:
    with torch.device("meta"):
        model = create(name, width=width, num_classes=1000)

    assert sum(parameter.numel() for parameter in model.parameters()) == total


def test_width_of_v2_leaves_the_last_convolution_at_least_as_wide() -> None:
    """Section 6.1 of the paper: for multipliers below 1 it is applied to all layers but the last."""
    with torch.device("meta"):
        features = [
            create("mobilenet_v2", width=width).get_submodule("classifier").in_features for width in (0.35, 1.4)
        ]

    assert features == [1280, 1792]


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_the_network(name: str) -> None:
    with torch.device("meta"):
        parts = part_names(create(name, dropout=0.5))

    stages = 7 if name == "mobilenet_v2" else 5 if name in ("mobilenet_v1", "mobilenet_v3_large") else 4
    head = () if name == "mobilenet_v1" else ("head",)
    fc = ("fc",) if "v3" in name else ()
    expected = (
        "stem",
        *(f"stage{n + 1}" for n in range(stages)),
        *head,
        "pool",
        "flatten",
        *fc,
        "dropout",
        "classifier",
    )
    assert parts == expected


@pytest.mark.parametrize(
    ("name", "own"), [("mobilenet_v1", (batch_norm(), relu())), ("mobilenet_v2", (batch_norm(), relu6()))]
)
def test_its_own_norm_and_activation_named_change_nothing(name: str, own: tuple[Norm, Activation]) -> None:
    norm, activation = own

    assert_same_network(name, norm=norm, activation=activation)


def test_v3_has_a_batch_norm_of_its_own() -> None:
    assert_same_network("mobilenet_v3_small", norm=batch_norm(eps=1e-3, momentum=0.01))
    norm = next(m for m in create("mobilenet_v3_small", norm=batch_norm()).modules() if isinstance(m, nn.BatchNorm2d))
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)


def assert_same_network(name: str, **named: Any) -> None:
    torch.manual_seed(0)
    plain = create(name)
    torch.manual_seed(0)
    explicit = create(name, **named)
    assert str(plain) == str(explicit)
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), explicit.state_dict().values(), strict=True)
    )


def test_a_named_activation_stands_for_both_of_v3() -> None:
    with torch.device("meta"):
        found = {
            choice: {type(module) for module in create("mobilenet_v3_large", activation=activation).modules()}
            for choice, activation in (("own", None), ("silu", silu()), ("hardswish", hardswish()))
        }

    assert {nn.ReLU, nn.Hardswish} <= found["own"]
    assert nn.SiLU in found["silu"]
    assert not {nn.ReLU, nn.Hardswish} & found["silu"]
    assert nn.ReLU not in found["hardswish"]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_norm_every_convolution_has_its_bias(name: str) -> None:
    with torch.device("meta"):
        plain, bare = create(name), create(name, norm=no_norm())

    assert not any(isinstance(module, nn.BatchNorm2d) for module in bare.modules())
    assert all(module.bias is not None for module in bare.modules() if isinstance(module, nn.Conv2d))
    block = plain.get_submodule("stem")
    assert block.get_submodule("affine").bias is None


@pytest.mark.parametrize("name", NAMES)
def test_small_images_keep_their_size_in_the_cifar_stem(name: str) -> None:
    x = torch.zeros(1, 3, 32, 32)

    assert create(name, stem="cifar").get_submodule("stem")(x).shape[2:] == (32, 32)
    assert create(name, stem="imagenet").get_submodule("stem")(x).shape[2:] == (16, 16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("stem", "minimum"), [("imagenet", 32), ("cifar", 16)])
def test_smallest_image(name: str, stem: str, minimum: int) -> None:
    """All strides together: every position of the last maps then stands for pixels of its own."""
    model = create(name, minimum, stem=stem, width=0.25)
    x = torch.randn(2, 3, minimum, minimum)
    assert model(x).shape == (2, 10)
    last = "head" if "head" in part_names(model) else "stage5"
    for part in part_names(model)[: part_names(model).index(last) + 1]:
        x = model.get_submodule(part)(x)
    assert x.shape[2:] == (1, 1)

    message = f"{name} with the {stem} stem needs at least {minimum}x{minimum} images, got {minimum - 1}x40"
    with pytest.raises(ImageTooSmallError, match=message) as caught:
        models.create(name, num_classes=10, in_channels=3, image_size=(minimum - 1, 40), stem=stem)
    assert caught.value.minimum == minimum


@pytest.mark.parametrize("name", NAMES)
def test_odd_and_oblong_images(name: str) -> None:
    model = models.create(name, num_classes=3, in_channels=1, image_size=(33, 50), width=0.25)

    assert model(torch.zeros(2, 1, 33, 50)).shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"stem": "vgg"}, "stem must be one of imagenet, cifar, got vgg"),
    ],
)
def test_values_are_checked(name: str, own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create(name, **own)


def test_variant_of_v3_is_checked() -> None:
    with pytest.raises(ValueError, match="variant must be one of large, small, got medium"):
        create("mobilenet_v3_small", variant="medium")


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_before_the_classifier(name: str) -> None:
    with torch.device("meta"):
        assert part_names(create(name, dropout=0.3))[-2:] == ("dropout", "classifier")
        assert "dropout" not in part_names(create(name, dropout=0.0))


def test_units_of_v2_are_residual_where_shapes_allow() -> None:
    """Repeats of table 2 without the first of each: 0 + 1 + 2 + 3 + 2 + 2 + 0."""
    with torch.device("meta"):
        model = create("mobilenet_v2")

    assert sum(isinstance(module, Residual) for module in model.modules()) == 10


def test_the_bottleneck_is_linear() -> None:
    """A unit whose depthwise convolution gives large features is affine in them: no activation follows the projection."""
    unit = create("mobilenet_v2", norm=no_norm()).get_submodule("stage2.1")
    assert isinstance(unit, Residual)
    project = unit.branch.get_submodule("project")

    assert [type(layer) for layer in project.children()] == [nn.Conv2d]
    assert isinstance(unit.activation, nn.Identity)
