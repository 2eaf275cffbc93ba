"""The pre-activation residual networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.checks import ImageTooSmallError, RefusedError
from models.layers.activation import Activation
from models.layers.place import Layout
from models.layers.residual import Residual
from models.preact import FOREIGN, preact_cifar, preact_resnet
from tests.models.oracle import assert_same, make_general


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def timm_network(blocks: tuple[int, ...], *, basic: bool) -> nn.Module:
    """timm's, whose classifier is a 1x1 convolution, with a linear one instead."""
    from timm.layers import BatchNormAct2d, ClassifierHead, create_conv2d
    from timm.models.resnetv2 import ResNetV2

    kinds: dict[str, Any] = {"conv_layer": create_conv2d, "norm_layer": BatchNormAct2d}
    if basic:
        kinds |= {"channels": (64, 128, 256, 512), "basic": True, "bottle_ratio": 1.0}
    theirs = ResNetV2(list(blocks), num_classes=10, **kinds)
    theirs.head = ClassifierHead(theirs.num_features, 10, pool_type="avg")
    return theirs


@pytest.mark.parametrize(
    ("blocks", "basic"),
    [
        ((1, 2, 1, 1), True),
        pytest.param((1, 2, 1, 1), False, marks=pytest.mark.slow),
        pytest.param((2, 2, 2, 2), True, marks=pytest.mark.slow),
        pytest.param((3, 4, 6, 3), True, marks=pytest.mark.slow),
        pytest.param((3, 4, 6, 3), False, marks=pytest.mark.slow),
        pytest.param((3, 4, 23, 3), False, marks=pytest.mark.slow),
        pytest.param((3, 8, 36, 3), False, marks=pytest.mark.slow),
        pytest.param((3, 24, 36, 3), False, marks=pytest.mark.slow),
    ],
)
def test_equals_timm_where_the_first_activation_follows_the_pooling(blocks: tuple[int, ...], basic: bool) -> None:
    ours = preact_resnet(
        num_classes=10,
        in_channels=3,
        image_size=(32, 32),
        blocks=blocks,
        unit="basic" if basic else "bottleneck",
        activated_stem=False,
    )

    assert_same(ours, timm_network(blocks, basic=basic), FOREIGN["preact_resnet"]["timm"], 32)


@pytest.mark.slow
def test_names_equal_timms_names() -> None:
    import timm

    for depth in (18, 34, 50, 101, 152):
        with torch.device("meta"):
            theirs = timm.create_model(f"resnetv2_{depth}")
            ours = models.create(
                f"preact_resnet{depth}", num_classes=1000, in_channels=3, image_size=(224, 224), activated_stem=False
            )
        names = FOREIGN["preact_resnet"]["timm"](ours)
        assert set(names.values()) == set(theirs.state_dict())
        assert count(ours) == count(theirs)


def reference(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """He et al. 2016, figure 1b and the appendix, in evaluation: basic units, projections, the first unit activated already."""

    def norm_relu(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias).relu()

    conv = partial(F.conv2d, padding=1)
    x = norm_relu("stem.norm", conv(x, state["stem.affine.weight"]))
    for stage in (1, 2, 3):
        for block in range(blocks):
            unit, stride = f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = f"{unit}.residual" if stride == 2 else unit
            activated = x
            if stage > 1 or block > 0:
                activated = norm_relu(f"{unit}.pre.norm" if stride == 2 else f"{unit}.branch.pre.norm", x)
            if stride == 2:
                x = F.conv2d(activated, state[f"{inner}.shortcut.weight"], stride=2)
            f = conv(activated, state[f"{inner}.branch.conv1.affine.weight"], stride=stride)
            x = x + conv(norm_relu(f"{inner}.branch.conv1.norm", f), state[f"{inner}.branch.conv2.weight"])
    x = norm_relu("activated.norm", x).mean((2, 3))
    return F.linear(x, state["classifier.weight"], state["classifier.bias"])


def test_the_form_of_the_paper() -> None:
    model = preact_cifar(num_classes=3, in_channels=3, image_size=(9, 9), depth=14, width=4).double().eval()
    make_general(model)
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64)

    with torch.no_grad():
        torch.testing.assert_close(model(x), reference(model.state_dict(), x, 2))


@pytest.mark.parametrize(("unit", "depth"), [("basic", 38), ("bottleneck", 29)])
def test_identity_mappings_telescope(unit: str, depth: int) -> None:
    """Equation 4: x_L = x_l + the sum of f_i(x_i) for i = l .. L - 1, here from the second unit of a stage on."""
    model = preact_cifar(num_classes=3, in_channels=3, image_size=(8, 8), depth=depth, width=4, unit=unit)  # type: ignore[arg-type]
    model.double().train()
    x = model.get_submodule("stem")(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    terms: list[Tensor] = []
    for name in ("stage1", "stage2", "stage3"):
        first, *units = model.get_submodule(name).children()
        x = begin = first(x)
        for each in units:
            assert isinstance(each, Residual)
            assert isinstance(each.shortcut, nn.Identity)
            each.branch.register_forward_hook(lambda module, args, out: terms.append(out))
            x = each(x)

        assert len(terms) == len(units) == {38: 5, 29: 2}[depth]
        torch.testing.assert_close(x, begin + torch.stack(terms).sum(0), rtol=1e-14, atol=1e-14)
        terms.clear()


@pytest.mark.parametrize(("depth", "millions"), [(164, 1.7), (1001, 10.2)])
def test_parameter_totals_of_the_bottleneck_networks_of_the_paper(depth: int, millions: float) -> None:
    """He et al. 2016 give 1.7M and 10.2M, without what batch normalization has."""
    with torch.device("meta"):
        model = preact_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=depth, unit="bottleneck")

    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    assert round(weights / 1e6, 1) == millions


@pytest.mark.parametrize(("depth", "unit"), [(20, "basic"), (20, "bottleneck")])
def test_depth_counts_the_layers_but_for_projections(depth: int, unit: str) -> None:
    with torch.device("meta"):
        model = preact_cifar(num_classes=10, in_channels=3, image_size=(32, 32), depth=depth, unit=unit, shortcut="A")  # type: ignore[arg-type]

    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


def test_a_dropped_unit_is_the_identity() -> None:
    """x + b f(x) without an activation after the sum."""
    model = preact_cifar(
        num_classes=3, in_channels=3, image_size=(8, 8), depth=14, width=4, survival=1e-9, decay="constant"
    )
    x = torch.randn(2, 4, 8, 8)

    assert torch.equal(model.get_submodule("stage1")(x), x)


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("activated_stem", [True, False])
def test_the_stream_carries_the_pieces_of_its_readers(shortcut: str, activated_stem: bool) -> None:
    class Larger(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, second = x.chunk(2, 1)
            return torch.maximum(first, second)

    def larger(num_features: int, layout: Layout) -> nn.Module:
        return Larger()

    model = preact_resnet(
        num_classes=3,
        in_channels=3,
        image_size=(8, 8),
        blocks=(2, 1),
        stem="cifar",
        width=0.125,
        shortcut=shortcut,  # type: ignore[arg-type]
        activated_stem=activated_stem,
        activation=Activation(larger, pieces=2),
    )
    x = model.get_submodule("stem")(torch.randn(2, 3, 8, 8))
    assert x.shape[1] == (8 if activated_stem else 16)
    x = model.get_submodule("stage1")(x)
    assert x.shape[1:] == (16, 8, 8)
    x = model.get_submodule("stage2")(x)
    assert x.shape[1:] == (32, 4, 4)
    assert model.get_submodule("activated")(x).shape[1:] == (16, 4, 4)


def test_smallest_images() -> None:
    model = preact_resnet(num_classes=3, in_channels=3, image_size=(32, 32), width=0.125)

    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(ImageTooSmallError, match="preact_resnet needs at least 32x32 images, got 31x31"):
        preact_resnet(num_classes=3, in_channels=3, image_size=(31, 31))
    with pytest.raises(ImageTooSmallError, match="preact_cifar needs at least 8x8 images, got 7x9"):
        preact_cifar(num_classes=3, in_channels=3, image_size=(7, 9))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"depth": 21}, r"depth must be 6n\+2 \(8, 14, 20, ...\), got 21; nearest: 20 and 26"),
        ({"depth": 110, "unit": "bottleneck"}, None),
        (
            {"depth": 112, "unit": "bottleneck"},
            r"depth must be 9n\+2 \(11, 20, 29, ...\), got 112; nearest: 110 and 119",
        ),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"unit": "wide"}, "unit must be one of basic, bottleneck, got wide"),
        ({"shortcut": "D"}, "shortcut must be one of A, B, C, got D"),
        ({"survival": 2.0}, "survival must be in"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_values_are_checked(own: dict[str, Any], message: str | None) -> None:
    build = partial(preact_cifar, num_classes=3, in_channels=3, image_size=(8, 8), **own)
    with torch.device("meta"):
        if message is None:
            build()
            return
        with pytest.raises(ValueError, match=message):
            build()


def test_a_basic_unit_has_no_middle_convolution() -> None:
    with pytest.raises(RefusedError, match="stride_in=middle needs unit=bottleneck"):
        preact_resnet(num_classes=3, in_channels=3, image_size=(32, 32), stride_in="middle")


def test_dropout_and_width() -> None:
    model = preact_resnet(num_classes=3, in_channels=3, image_size=(32, 32), width=0.125, dropout=0.3)

    assert model.parts[-3:] == ("flatten", "dropout", "classifier")
    assert model.get_submodule("classifier").in_features == 64
