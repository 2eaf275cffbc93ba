"""What networks cost, against the tables of the lectures, torchvision's documentation and gradients."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import models
from models.description import Description, describe_network, rows, total
from models.layers.resize import Resize
from models.network import Network
from models.tracing import saved_bytes, trace

TABLES = Path(__file__).parents[3] / "shared" / "lectures" / "tables"


def table(name: str) -> list[dict[str, str]]:
    path = TABLES / f"{name}.csv"
    if not path.is_file():
        pytest.skip("the tables of the lectures are not here")
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_every_cell_of_the_lectures_vgg16() -> None:
    expected = [row for row in table("vgg16_layers") if row["layer"] != "TOTAL"]
    found = models.describe("vgg16")

    table_rows = [row for row in rows(found, "lecture_vgg") if "average pool" not in row.layer]

    assert [row.volume for row in table_rows] == [row["volume"].removeprefix("1x1x") for row in expected]
    assert [row.activations for row in table_rows] == [int(row["memory_exact"]) for row in expected]
    assert [row.parameters for row in table_rows] == [int(row["params_slide"]) for row in expected]
    biases = [layer.parameters - layer.weights for layer in found.layers if layer.weights]
    assert biases == [int(row["bias_params_not_counted"]) for row in expected if row["bias_params_not_counted"] != "0"]
    summed = total(table_rows)
    assert (summed.activations, summed.parameters, summed.operations) == (15_237_608, 138_344_128, 15_470_264_320)


def test_every_cell_of_the_lectures_alexnet() -> None:
    expected = table("alexnet_layers")
    found = models.describe("alexnet")

    table_rows = rows(found, "lecture_vgg")

    assert [row.volume for row in table_rows] == [row["output_volume_slide"] for row in expected]
    assert [row.parameters for row in table_rows] == [int(row["weights"]) for row in expected]
    assert [row.operations for row in table_rows] == [int(row["multiply_adds"]) for row in expected]
    biases = [layer.parameters - layer.weights for layer in found.layers if layer.weights]
    assert biases == [int(row["biases"]) for row in expected if row["biases"] != "0"]
    assert total(rows(found)).parameters == 62_378_344


def test_every_cell_of_the_lectures_resnet34() -> None:
    expected = [row for row in table("resnet34_rows") if not row["row"].startswith("TOTAL")]

    table_rows = rows(models.describe("resnet34"), "lecture_resnet")

    assert [row.layer for row in table_rows] == [row["row"] for row in expected]
    assert [row.parameters for row in table_rows] == [int(row["parameters_slide"]) for row in expected]
    assert [row.operations for row in table_rows] == [int(row["operations_slide"]) for row in expected]
    assert [row.volume for row in table_rows] == [row["volume_slide"] for row in expected]


@pytest.mark.parametrize(("name", "module"), [("inception_module", "bottleneck"), ("naive_inception_module", "naive")])
def test_every_row_of_the_lectures_inception_modules(name: str, module: str) -> None:
    """The slide's own total of the bottleneck form, 358M, is an error; the table has the corrected one."""
    expected = [int(row["ops_exact"]) for row in table("googlenet_inception_ops") if row["module"] == module]

    table_rows = rows(models.describe_example(name))

    assert sorted(row.operations for row in table_rows if row.parameters) == sorted(expected[:-1])
    assert total(table_rows).operations == expected[-1]


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_resnets_of_the_lecture_and_of_torchvision(depth: int) -> None:
    expected = next(row for row in table("resnet_models") if row["model"] == f"ResNet-{depth}")
    found = models.describe(f"resnet{depth}", stride_in="first")

    summed = total(rows(found, "lecture_resnet"))

    assert summed.parameters == int(expected["params_004"])
    assert summed.operations == int(expected["ops_004"])
    assert abs(summed.operations / 1e9 - float(expected["FLOPs_slide_1e9"])) < 0.1
    assert found.parameters == int(expected["params_torchvision_style"])
    assert found.multiply_adds == int(expected["multiply_adds_no_bias"])
    assert sum(layer.parameters for layer in found.layers if not layer.weights) == 2 * int(expected["bn_channels"])


@pytest.mark.parametrize(
    ("name", "giga"),
    [("resnet50", 4.09), ("densenet121", 2.83), ("vgg16", 15.47), ("mobilenet_v2", 0.30), ("efficientnet_b0", 0.39)],
)
def test_multiply_adds_are_those_of_torchvisions_documentation(name: str, giga: float) -> None:
    """`GFLOPS` in torchvision's table of weights, which are multiply-adds, printed with two digits after the point."""
    assert models.describe(name).multiply_adds / 1e9 == pytest.approx(giga, abs=0.0051)


@pytest.mark.parametrize(
    ("name", "depth"), [("alexnet", 8), ("vgg19", 19), ("resnet50", 50), ("resnet_cifar", 20), ("densenet121", 121)]
)
def test_depth_is_that_of_the_name(name: str, depth: int) -> None:
    assert models.describe(name).depth == depth


@pytest.mark.parametrize(("name", "field"), [("vgg16", 212), ("densenet121", 2071), ("alexnet_owt", 195)])
def test_receptive_field_is_the_published_one(name: str, field: int) -> None:
    """Araujo et al. 2019, Computing Receptive Fields of Convolutional Neural Networks, table 1."""
    assert models.describe(name).receptive_field == (field, field)


def test_receptive_field_is_the_support_of_the_gradient() -> None:
    features = nn.Sequential(
        nn.Conv2d(1, 2, (3, 5), padding=(1, 2)),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 2, 3, padding=2, dilation=2),
        nn.AvgPool2d(3, 2),
    )
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    features(image)[0, :, 8, 8].sum().backward()
    assert image.grad is not None
    support = [int((image.grad[0, 0].abs().sum(axis) > 0).sum()) for axis in (1, 0)]

    out, tracer, _ = trace(features.to("meta"), torch.empty(1, 1, 64, 64, device="meta"))

    reach = tracer.reach(out)
    assert reach is not None
    # max pooling passes the gradient of one of two pixels on, so that up to one at each side is not in the support
    assert all(field - 2 <= seen <= field for field, seen in zip(reach.field, support, strict=True))
    assert reach.field == (2 + 2 * 4 + 2 * 2 + 2, 2 + 2 * 4 + 2 * 2 + 4)
    assert reach.stride == (4, 4)


@pytest.mark.parametrize(("size", "support"), [(32, (30, 22)), (128, (9, 7))])
def test_receptive_field_after_resizing_is_the_support_of_the_gradient(size: int, support: tuple[int, int]) -> None:
    """Of 14 x 10 resized pixels: two apart and four wide where halved, half a pixel apart and two wide where doubled."""
    features = nn.Sequential(Resize(size), nn.Conv2d(1, 2, (5, 3)), nn.AvgPool2d(2), nn.Conv2d(2, 2, (5, 4)))
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    features(image)[0, :, 4, 4].sum().backward()
    assert image.grad is not None
    seen = [int((image.grad[0, 0].abs().sum(axis) > 0).sum()) for axis in (1, 0)]

    with torch.device("meta"):
        network = Network({"resize": features[0], "features": features[1:].to("meta"), "classifier": nn.Flatten()})
    found = describe_network(network, in_channels=1, image_size=(64, 64))

    assert found.receptive_field == tuple(seen) == support


def test_saved_bytes_are_those_that_a_real_pass_keeps() -> None:
    """By hand: the image, the outputs of convolution and ReLU, the statistics of batch norm, the pooled features."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).to("meta")

    kept = saved_bytes(model, torch.empty(2, 3, 8, 8, device="meta"))

    assert kept == 4 * 2 * (3 * 64 + 4 * 64 + 4 * 64 + 4) + 4 * (4 + 4)


def test_a_shared_layer_counts_its_parameters_once_and_its_operations_each_time() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return self.layer(self.layer(x))

    model = Network({"flatten": nn.Flatten(), "stage1": Twice(), "classifier": nn.Linear(6, 2)}).to("meta")
    found = describe_network(model, in_channels=6, image_size=(1, 1))

    assert found.parameters == sum(layer.parameters for layer in found.layers) == 42 + 14
    assert found.multiply_adds == 36 + 36 + 12
    assert found.depth == 3


def test_weights_that_are_computed_are_counted_as_the_parameters_they_come_from() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)).to("meta")

    found = describe_network(nn.Sequential(nn.Flatten(), model), in_channels=6, image_size=(1, 1))

    assert found.parameters == 6 * 4 + 4 + 4
    assert [layer.weights for layer in found.layers] == [24]


def test_training_mode_and_random_state_are_left_alone() -> None:
    with torch.device("meta"):
        model = models.create("resnet_cifar", num_classes=10, in_channels=3, image_size=(32, 32), depth=8)
    model.train()
    before = torch.get_rng_state()

    describe_network(model, in_channels=3, image_size=(32, 32))

    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_size_and_settings_other_than_the_papers() -> None:
    found = models.describe("resnet_cifar", num_classes=7, in_channels=1, image_size=(24, 16), depth=8, width=4)

    assert (found.num_classes, found.in_channels, found.image_size) == (7, 1, (24, 16))
    assert found.layers[0].inputs == (1, 24, 16)
    assert found.smallest_image == 8


def test_too_small_images_are_refused_as_by_create() -> None:
    with pytest.raises(ValueError, match="needs at least 8x8 images, got 4x4"):
        models.describe("resnet_cifar", image_size=(4, 4))


def figures_of(found: Description) -> dict[str, int]:
    return {
        "image_size": found.image_size[0],
        "parameters": found.parameters,
        "multiply_adds": found.multiply_adds,
        "activation_bytes": found.activation_bytes,
        "depth": found.depth,
        "receptive_field": found.receptive_field[0],
        "smallest_image": found.smallest_image,
    }


def test_figures_are_those_of_every_architecture() -> None:
    """`python -m models.figures` writes them again."""
    assert sorted(models.figures()) == models.names()
    for name in models.names()[:: max(1, len(models.names()) // 8)]:
        assert models.figures()[name] == figures_of(models.describe(name)), name


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_figures_are_up_to_date(name: str) -> None:
    assert models.figures()[name] == figures_of(models.describe(name))
