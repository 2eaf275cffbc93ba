"""VGG against the lectures' table, torchvision and timm."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models import checks, foreign
from models.layers.activation import leaky_relu, relu
from models.layers.norm import batch_norm, group_norm, no_norm
from models.vgg import vgg
from tests.models.oracle import assert_same

TABLES = Path(__file__).parents[3] / "shared/lectures/tables"
NAMES = ("vgg11", "vgg13", "vgg16", "vgg19")


def small(name: str, **own: Any) -> nn.Module:
    """A narrow network for images of 32x32."""
    return models.create(name, num_classes=10, in_channels=3, image_size=(32, 32), **{"width": 0.125} | own)


def kinds(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, kind)]


def test_layers_of_the_lectures() -> None:
    """Every row of the table: volume, weights and biases."""
    table = TABLES / "vgg16_layers.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    with table.open() as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    with torch.device("meta"):
        model = models.create("vgg16", num_classes=1000, in_channels=3, image_size=(224, 224))
    found = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        weights, biases = (getattr(module, kind, torch.empty(0)).numel() for kind in ("weight", "bias"))
        channels, *positions = output.shape[1:]
        found.append(("x".join(map(str, (*(positions or (1, 1)), channels))), output[0].numel(), weights, biases))

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.Linear):
            module.register_forward_hook(note)
    model(torch.zeros(1, 3, 224, 224, device="meta"))

    assert found == [
        (row["volume"], int(row["memory_exact"]), int(row["params_slide"]), int(row["bias_params_not_counted"]))
        for row in rows
        if row["layer"] not in ("INPUT", "TOTAL")
    ]


@pytest.mark.parametrize(
    ("name", "total"),
    # 16 and 19: param_oracle.csv of the lectures; the others: torchvision's documentation.
    [("vgg11", 132_863_336), ("vgg13", 133_047_848), ("vgg16", 138_357_544), ("vgg19", 143_667_240)],
)
def test_parameter_totals(name: str, total: int) -> None:
    with torch.device("meta"):
        model = models.create(name, num_classes=1000, in_channels=3, image_size=(224, 224))

    assert sum(parameter.numel() for parameter in model.parameters()) == total


@pytest.mark.parametrize("name", NAMES)
def test_name_counts_the_layers_with_weights(name: str) -> None:
    assert len(kinds(small(name), nn.Conv2d)) + len(kinds(small(name), nn.Linear)) == int(name.removeprefix("vgg"))


def without_biases(model: nn.Module) -> None:
    """Takes the biases of convolutions away, which torchvision has although batch normalization subtracts them again."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = None


@pytest.mark.parametrize(
    ("name", "normalized"),
    [
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in NAMES),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in NAMES),
    ],
)
def test_equals_torchvision_on_small_images(name: str, normalized: bool) -> None:
    """There the last maps are stretched to 7x7 positions; here the first fully connected layer takes their 1x1."""
    import torchvision

    theirs = torchvision.models.get_model(f"{name}_bn" if normalized else name, num_classes=10, init_weights=False)
    if normalized:
        without_biases(theirs)
    theirs.avgpool, theirs.classifier[0] = nn.Identity(), nn.Linear(512, 4096)
    norm = batch_norm() if normalized else None
    ours = models.create(name, num_classes=10, in_channels=3, image_size=(32, 32), norm=norm)

    assert_same(ours, theirs, foreign.tables(vgg)["torchvision"], 32)


@pytest.mark.slow
def test_equals_torchvision_at_the_size_of_the_paper() -> None:
    import torchvision

    ours = models.create("vgg11", num_classes=1000, in_channels=3, image_size=(224, 224))

    assert_same(ours, torchvision.models.vgg11(init_weights=False), foreign.tables(vgg)["torchvision"], 224, batch=2)


@pytest.mark.slow
def test_equals_timm() -> None:
    """timm writes the hidden fully connected layers as convolutions, for which the weights are reshaped here."""
    import timm

    theirs = timm.create_model("vgg11", pretrained=False)
    ours = models.create("vgg11", num_classes=1000, in_channels=3, image_size=(224, 224))
    state, table = theirs.state_dict(), foreign.tables(vgg)["timm"](ours)
    assert set(table.values()) == set(state)
    ours.load_state_dict({name: state[table[name]].view_as(own) for name, own in ours.state_dict().items()})
    images = torch.randn(2, 3, 224, 224)

    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)


def test_own_norm_and_activation_named_explicitly_change_nothing() -> None:
    torch.manual_seed(0)
    default = small("vgg11").eval()
    torch.manual_seed(0)
    named = small("vgg11", norm=no_norm(), activation=relu()).eval()
    images = torch.randn(2, 3, 32, 32)

    assert torch.equal(named(images), default(images))


def test_norm_is_in_every_convolution_and_takes_its_bias() -> None:
    model = small("vgg16", norm=batch_norm())

    assert len(kinds(model, nn.BatchNorm2d)) == len(kinds(model, nn.Conv2d)) == 13
    assert all(model.get_submodule(path).bias is None for path in kinds(model, nn.Conv2d))
    assert all(model.get_submodule(path).bias is not None for path in kinds(model, nn.Linear))
    assert len(kinds(small("vgg16", norm=group_norm()), nn.GroupNorm)) == 13


def test_activation_is_in_every_hidden_layer() -> None:
    model = small("vgg16", activation=leaky_relu())

    assert len(kinds(model, nn.LeakyReLU)) == 15
    assert not kinds(model, nn.ReLU)


def test_parts() -> None:
    stages = tuple(f"stage{stage}" for stage in range(1, 6))

    assert small("vgg11").parts == (*stages, "flatten", "fc6", "dropout6", "fc7", "dropout7", "classifier")
    assert small("vgg11", dropout=0.0).parts == (*stages, "flatten", "fc6", "fc7", "classifier")


def test_dropout_is_the_rate_of_both_hidden_layers() -> None:
    model = small("vgg11", dropout=0.3)

    assert [model.get_submodule(path).p for path in kinds(model, nn.Dropout)] == [0.3, 0.3]


def test_width_is_a_factor_on_all_channels() -> None:
    model = small("vgg11", width=0.25)

    channels = [model.get_submodule(path).out_channels for path in kinds(model, nn.Conv2d)]
    assert channels == [16, 32, 64, 64, 128, 128, 128, 128]
    assert model.get_submodule("classifier").in_features == 1024


def test_other_numbers_of_stages() -> None:
    model = vgg(num_classes=3, in_channels=1, image_size=(9, 17), blocks=(1, 1, 2), width=0.125)

    assert model(torch.zeros(2, 1, 9, 17)).shape == (2, 3)


@pytest.mark.parametrize(("blocks", "minimum"), [((2, 2, 3, 3, 3), 32), ((1, 2), 4)])
def test_smallest_image(blocks: tuple[int, ...], minimum: int) -> None:
    """Two of them are enough for batch normalization in training; one pixel less leaves a pooling without positions."""
    own: dict[str, Any] = {"num_classes": 4, "in_channels": 3, "blocks": blocks, "width": 0.125, "norm": batch_norm()}
    model = vgg(image_size=(minimum, minimum + 9), **own)
    assert model.train()(torch.randn(2, 3, minimum, minimum + 9)).shape == (2, 4)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        model(torch.zeros(2, 3, minimum - 1, minimum - 1))

    with pytest.raises(checks.ImageTooSmallError, match=f"needs at least {minimum}x{minimum} images, got") as refused:
        vgg(image_size=(minimum + 1, minimum - 1), **own)
    assert refused.value.minimum == minimum


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"blocks": []}, r"blocks must be one or more numbers of at least 1, got \[\]"),
        ({"blocks": [2, 0]}, r"blocks must be one or more numbers of at least 1, got \[2, 0\]"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"width": -1.0}, r"width must be positive and finite, got -1.0"),
        ({"stem": "cifar"}, r"vgg11 takes no stem: it begins with 3x3 convolutions"),
    ],
)
def test_arguments_are_checked(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small("vgg11", **own)
