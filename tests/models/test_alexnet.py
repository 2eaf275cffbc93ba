"""AlexNet and its relatives, against the lectures' table, torchvision, and the papers' formulas written out."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models import checks, foreign
from models.alexnet import alexnet, alexnet_owt
from models.layers.activation import leaky_relu, relu
from models.layers.norm import Norm, batch_norm, group_norm, local_response_norm, no_norm
from tests.models.oracle import assert_same

TABLES = Path(__file__).parents[3] / "shared/lectures/tables"
NAMES = ("alexnet", "alexnet_grouped", "caffenet", "zfnet", "alexnet_owt")
SIZES = {"alexnet": 227, "alexnet_grouped": 227, "caffenet": 227, "zfnet": 224, "alexnet_owt": 224}
MINIMA = [
    *((name, "imagenet", 67) for name in ("alexnet", "alexnet_grouped", "caffenet")),
    *((name, "cifar", 15) for name in ("alexnet", "alexnet_grouped", "caffenet", "alexnet_owt")),
    ("alexnet_owt", "imagenet", 63),
    ("zfnet", "imagenet", 47),
    ("zfnet", "cifar", 22),
]


class Row(NamedTuple):
    """A layer: its volume as height x width x channels, and its numbers of parameters and of multiply-adds."""

    volume: str
    weights: int
    biases: int
    multiply_adds: int


def small(name: str, **own: Any) -> nn.Module:
    """A narrow network for images of 32x32."""
    settings: dict[str, Any] = {"stem": "cifar", "width": 0.125} | own
    return models.create(name, num_classes=10, in_channels=3, image_size=(32, 32), **settings)


def on_meta(name: str, **own: Any) -> nn.Module:
    size = SIZES[name]
    with torch.device("meta"):
        return models.create(name, num_classes=1000, in_channels=3, image_size=(size, size), **own)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def kinds(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, kind)]


def layers_of(model: nn.Module, size: int) -> list[Row]:
    """The layers of the lectures' table in the order in which they run."""
    rows = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        weights, biases = (getattr(module, kind, torch.empty(0)).numel() for kind in ("weight", "bias"))
        channels, *positions = output.shape[1:]
        volume = "x".join(map(str, (*positions, channels)))
        rows.append(Row(volume, weights, biases, weights * output[0, 0].numel()))

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.LocalResponseNorm | nn.Linear):
            module.register_forward_hook(note)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    return rows


def test_layers_of_the_lectures() -> None:
    """Every cell of the table: shapes of the slide, and numbers worked out from them."""
    table = TABLES / "alexnet_layers.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    with table.open() as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    expected = [
        Row(row["output_volume_slide"], int(row["weights"]), int(row["biases"]), int(row["multiply_adds"]))
        for row in rows
        if row["layer"] != "INPUT"
    ]

    found = layers_of(alexnet(num_classes=1000, in_channels=3, image_size=(227, 227)), 227)

    assert found == expected
    assert sum(row.multiply_adds for row in found) == 1_135_256_096


@pytest.mark.parametrize(
    ("name", "total"),
    [
        # param_oracle.csv of the lectures
        ("alexnet", 62_378_344),
        ("alexnet_grouped", 60_965_224),
        # The same convolutions as the paper's.
        ("caffenet", 60_965_224),
        # 14,208 + 614,656 + 885,120 + 1,327,488 + 884,992 in the convolutions of figure 3, from 6x6x256 on as AlexNet.
        ("zfnet", 62_357_608),
        # torchvision's documentation
        ("alexnet_owt", 61_100_840),
    ],
)
def test_parameter_totals(name: str, total: int) -> None:
    assert parameters(on_meta(name)) == total


def test_shapes_of_zfnet() -> None:
    """Of figure 3: 110, 55 pooled, 26, 13 pooled, 13, 13, 13, 6 pooled; here at an eighth of the channels."""
    model = models.create("zfnet", num_classes=10, in_channels=3, image_size=(224, 224), width=0.125)

    volumes = [row.volume for row in layers_of(model, 224)]

    assert volumes == [
        *("110x110x12", "55x55x12", "55x55x12", "26x26x32", "13x13x32", "13x13x32"),
        *("13x13x48", "13x13x48", "13x13x32", "6x6x32", "512", "512", "10"),
    ]


def response_normalized(x: Tensor, alpha: float, k: float) -> Tensor:
    """Section 3.3 of the paper: the sum is over the five channels around each, and alpha is not divided by their number."""
    padded = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
    return x / (k + alpha * padded.unfold(1, 5, 1).sum(-1)) ** 0.75


def written_out(name: str, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The networks for 3x3 stems from their descriptions, each activation directly after its convolution."""
    groups, ceil_mode = (1 if name in ("alexnet", "zfnet") else 2), name == "zfnet"
    alpha, k = (2e-5, 1.0) if name == "caffenet" else (1e-4, 2.0)
    second = {"stride": 2} if name == "zfnet" else {"padding": 2}
    convolutions: list[dict[str, int]] = [
        {"padding": 1},
        {"groups": groups, **second},
        {"padding": 1},
        {"padding": 1, "groups": groups},
        {"padding": 1, "groups": groups},
    ]
    for index, arguments in enumerate(convolutions):
        affine = f"stage{index + 1}.conv.affine"
        x = F.conv2d(x, state[f"{affine}.weight"], state[f"{affine}.bias"], **arguments).relu()  # type: ignore[arg-type]
        if index < 2 and name == "alexnet_grouped":
            x = response_normalized(x, alpha, k)
        if index in (0, 1, 4):
            x = F.max_pool2d(x, 3, 2, ceil_mode=ceil_mode)
        if index < 2 and name != "alexnet_grouped":
            x = response_normalized(x, alpha, k)
    x = x.flatten(1)
    for layer in ("fc6.affine", "fc7.affine"):
        x = F.linear(x, state[f"{layer}.weight"], state[f"{layer}.bias"]).relu()
    return F.linear(x, state["classifier.weight"], state["classifier.bias"])


@pytest.mark.parametrize("name", ["alexnet", "alexnet_grouped", "caffenet", "zfnet"])
def test_equal_to_the_papers_written_out(name: str) -> None:
    """In double precision; with images large enough for the normalization to matter, and pooling of overlapping windows."""
    torch.manual_seed(0)
    model = small(name).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    images = 30 * torch.randn(4, 3, 32, 32, dtype=torch.float64)

    with torch.no_grad():
        expected = written_out(name, model.state_dict(), images)
        torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def test_order_of_pooling_and_normalization() -> None:
    for name, pool_first in (("alexnet", True), ("caffenet", True), ("zfnet", True), ("alexnet_grouped", False)):
        order = kinds(small(name).get_submodule("stage1"), nn.MaxPool2d | nn.LocalResponseNorm)  # type: ignore[arg-type]
        assert ("pool" in order[0]) == pool_first


def test_grouped_convolutions_are_their_paths_side_by_side() -> None:
    """Each graphics card of the paper sees its own half of the channels in convolutions 2, 4 and 5."""
    model = small("alexnet_grouped")
    grouped = [path for path in kinds(model, nn.Conv2d) if model.get_submodule(path).groups == 2]
    assert grouped == ["stage2.conv.affine", "stage4.conv.affine", "stage5.conv.affine"]

    for path in grouped:
        convolution: Any = model.get_submodule(path)
        x = torch.randn(2, convolution.in_channels, 7, 7)
        paths = [
            F.conv2d(half, weight, bias, padding=convolution.padding)
            for half, weight, bias in zip(
                x.chunk(2, 1), convolution.weight.chunk(2), convolution.bias.chunk(2), strict=True
            )
        ]
        torch.testing.assert_close(convolution(x), torch.cat(paths, 1))


@pytest.mark.slow
def test_alexnet_owt_equals_torchvision() -> None:
    from torchvision.models import alexnet as theirs

    model = alexnet_owt(num_classes=1000, in_channels=3, image_size=(224, 224))

    assert_same(model, theirs(), foreign.tables(alexnet_owt)["torchvision"], 224)


@pytest.mark.slow
def test_alexnet_owt_equals_torchvision_on_small_images() -> None:
    """There the last maps are stretched to 6x6 positions; here the first fully connected layer takes their 2x2."""
    from torchvision.models import alexnet as theirs

    other = theirs(num_classes=10)
    other.avgpool, other.classifier[1] = nn.Identity(), nn.Linear(256 * 2 * 2, 4096)
    model = alexnet_owt(num_classes=10, in_channels=3, image_size=(96, 96))

    assert_same(model, other, foreign.tables(alexnet_owt)["torchvision"], 96)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("alexnet", local_response_norm()),
        ("caffenet", local_response_norm(alpha=2e-5, k=1.0)),
        ("zfnet", local_response_norm()),
        ("alexnet_owt", no_norm()),
    ],
)
def test_own_norm_and_activation_named_explicitly_change_nothing(name: str, own: Norm) -> None:
    torch.manual_seed(0)
    default = small(name).eval()
    torch.manual_seed(0)
    named = small(name, norm=own, activation=relu()).eval()
    images = torch.randn(2, 3, 32, 32)

    assert str(named) == str(default)
    assert torch.equal(named(images), default(images))


def test_a_norm_before_the_activation_is_in_every_convolution_and_takes_its_bias() -> None:
    model = small("alexnet", norm=batch_norm())

    assert not kinds(model, nn.LocalResponseNorm)
    assert kinds(model, nn.BatchNorm2d) == [f"stage{stage}.conv.norm" for stage in range(1, 6)]
    assert all(model.get_submodule(path).bias is None for path in kinds(model, nn.Conv2d))
    assert all(model.get_submodule(path).bias is not None for path in kinds(model, nn.Linear))
    assert len(kinds(small("alexnet", norm=group_norm()), nn.GroupNorm)) == 5


def test_response_normalization_before_the_activation_is_like_any_other() -> None:
    assert len(kinds(small("alexnet", norm=local_response_norm(after_activation=False)), nn.LocalResponseNorm)) == 5
    assert len(kinds(small("alexnet", norm=local_response_norm()), nn.LocalResponseNorm)) == 2


def test_no_norm_at_all() -> None:
    model = small("alexnet", norm=no_norm())

    assert not kinds(model, nn.LocalResponseNorm)
    assert parameters(model) == parameters(small("alexnet"))


def test_activation_is_in_every_hidden_layer() -> None:
    model = small("alexnet", activation=leaky_relu())

    assert len(kinds(model, nn.LeakyReLU)) == 7
    assert not kinds(model, nn.ReLU)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_where_the_paper_has_it(name: str) -> None:
    """AlexNet drops what its two hidden fully connected layers give, torchvision's what they are given."""
    model, without = small(name, dropout=0.3), small(name, dropout=0.0)
    expected = (
        ("dropout6", "fc6", "dropout7", "fc7") if name == "alexnet_owt" else ("fc6", "dropout6", "fc7", "dropout7")
    )

    assert model.parts[-5:] == (*expected, "classifier")
    assert {model.get_submodule(path).p for path in kinds(model, nn.Dropout)} == {0.3}
    assert not kinds(without, nn.Dropout)


def test_parts() -> None:
    stages = tuple(f"stage{stage}" for stage in range(1, 6))

    assert small("alexnet", dropout=0.0).parts == (*stages, "flatten", "fc6", "fc7", "classifier")


def test_width_is_a_factor_on_all_channels() -> None:
    model = small("alexnet", width=0.25)

    channels = [model.get_submodule(path).out_channels for path in kinds(model, nn.Conv2d)]
    assert channels == [24, 64, 96, 96, 64]
    assert model.get_submodule("classifier").in_features == 1024


def test_width_leaves_channels_that_the_groups_divide() -> None:
    model = small("alexnet", width=0.07, groups=3)

    assert [model.get_submodule(path).out_channels for path in kinds(model, nn.Conv2d)] == [6, 18, 27, 27, 18]


@pytest.mark.parametrize("name", NAMES)
def test_stem_for_small_images(name: str) -> None:
    first: Any = small(name).get_submodule("stage1.conv.affine")

    assert (first.kernel_size, first.stride, first.padding) == ((3, 3), (1, 1), (1, 1))


@pytest.mark.parametrize(("name", "stem", "minimum"), MINIMA)
def test_smallest_image(name: str, stem: str, minimum: int) -> None:
    """Two of them are enough for batch normalization in training; images need not be square."""
    size = (minimum, minimum + 9)
    model = models.create(
        name, num_classes=4, in_channels=3, image_size=size, stem=stem, width=0.125, norm=batch_norm()
    )

    assert model.train()(torch.randn(2, 3, *size)).shape == (2, 4)


@pytest.mark.parametrize(("name", "stem", "minimum"), MINIMA)
def test_smaller_images_are_refused(name: str, stem: str, minimum: int) -> None:
    size = (minimum + 1, minimum - 1)
    with pytest.raises(checks.ImageTooSmallError, match=f"needs at least {minimum}x{minimum} images, got") as refused:
        models.create(name, num_classes=4, in_channels=3, image_size=size, stem=stem)
    assert refused.value.minimum == minimum


@pytest.mark.parametrize(("name", "stem", "minimum"), MINIMA)
def test_smaller_images_leave_a_layer_without_positions(name: str, stem: str, minimum: int) -> None:
    model = models.create(name, num_classes=4, in_channels=3, image_size=(minimum, minimum), stem=stem, width=0.125)

    with pytest.raises(RuntimeError, match="Output size is too small"):
        model(torch.zeros(2, 3, minimum - 1, minimum - 1))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"pool": "first"}, "pool must be one of before_norm, after_norm, got first"),
        ({"stem": "tiny"}, "stem must be one of imagenet, cifar, got tiny"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
        ({"depth": 3}, "alexnet takes no depth; it takes"),
    ],
)
def test_arguments_are_checked(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small("alexnet", **own)
