"""The residual networks in numbers: the lectures' tables and those of the papers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import models
from models.layers.norm import Norm
from models.layers.residual import Residual

TABLES = Path(__file__).parents[3] / "shared" / "lectures" / "tables"
needs_tables = pytest.mark.skipif(
    not TABLES.exists(), reason="needs the lectures' tables in shared/ beside the repository"
)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def on_meta(name: str, size: int = 224, num_classes: int = 1000, **own: Any) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, num_classes=num_classes, in_channels=3, image_size=(size, size), **own)


def of_the_lecture() -> Norm:
    """Every convolution has a bias, batch normalization no parameters: the convention of resnet34_rows.csv."""
    return Norm(lambda num_features, place: nn.BatchNorm2d(num_features, affine=False))


def table(name: str) -> list[dict[str, str]]:
    lines = [line for line in (TABLES / name).read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


@needs_tables
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_totals_of_the_table_of_resnet_models(depth: int) -> None:
    row = next(row for row in table("resnet_models.csv") if row["model"] == f"ResNet-{depth}")
    spec = yaml.safe_load((models.CHOICES / f"resnet{depth}.yaml").read_text())

    assert spec["blocks"] == [int(row[f"conv{stage}_x_blocks"]) for stage in range(2, 6)]
    assert spec["unit"] == row["unit"]
    assert count(on_meta(f"resnet{depth}")) == int(row["params_torchvision_style"])
    assert count(on_meta(f"resnet{depth}", norm=of_the_lecture())) == int(row["params_004"])
    # the slide's operations are of the paper's strides; a basic unit has no other
    own = {} if depth < 50 else {"stride_in": "first"}
    cost = models.describe(f"resnet{depth}", num_classes=1000, in_channels=3, image_size=(224, 224), **own)
    assert cost.multiply_adds == int(row["multiply_adds_no_bias"])


@needs_tables
def test_rows_of_the_table_of_resnet34() -> None:
    model = on_meta("resnet34", norm=of_the_lecture())
    stages = [list(model.get_submodule(f"stage{stage}").children()) for stage in range(1, 5)]
    groups = [[model.get_submodule("stem")], stages[0]]
    groups += [part for stage in stages[1:] for part in (stage[:1], stage[1:])] + [[model.get_submodule("classifier")]]

    rows = [int(row["parameters_slide"]) for row in table("resnet34_rows.csv") if int(row["parameters_slide"])]
    assert [sum(map(count, group)) for group in groups] == rows[:-1]
    assert count(model) == rows[-1] == 21_789_160


def test_parameters_of_the_units_of_the_lecture() -> None:
    """Inventory, section 2: a convolution has a bias, the normalization none; weights alone, as torchvision, are fewer."""
    plain = on_meta("resnet34", norm=of_the_lecture())
    bottleneck = on_meta("resnet50", norm=of_the_lecture())

    assert count(plain.get_submodule("stage1.0")) == 73_856 == 2 * (9 * 64 * 64 + 64)
    assert count(plain.get_submodule("stage2.0")) == 229_760
    assert count(bottleneck.get_submodule("stage1.0")) == 74_368
    assert count(bottleneck.get_submodule("stage1.1")) == count(bottleneck.get_submodule("stage1.2")) == 70_016


@pytest.mark.parametrize(
    ("name", "total"),
    [
        # ../shared/lectures/tables/param_oracle.csv
        ("wide_resnet50_2", 68_883_240),
        ("resnext50_32x4d", 25_028_904),
        # Hu et al. 2018, section 6.1: SE-ResNet-50 has about 2.5 million more than ResNet-50, and those are
        # 2 c^2 / 16 weights and c + c / 16 biases for each of 3, 4, 6, 3 units of c = 256, 512, 1024, 2048 channels
        (
            "se_resnet50",
            25_557_032
            + sum(
                n * (2 * c * c // 16 + c + c // 16) for n, c in zip((3, 4, 6, 3), (256, 512, 1024, 2048), strict=True)
            ),
        ),
    ],
)
def test_parameter_totals_for_imagenet(name: str, total: int) -> None:
    assert count(on_meta(name)) == total


def test_resnext29_of_the_paper() -> None:
    """Xie et al. 2017, table 7: 34.4 million; on CIFAR, 29 layers with weights but for the projections."""
    model = on_meta("resnext29_8x64d", 32, 10)

    assert round(count(model) / 1e5) == 344
    branches = [m for module in model.modules() if isinstance(module, Residual) for m in module.branch.modules()]
    assert sum(isinstance(module, nn.Conv2d) for module in branches) + 2 == 29


def test_wrn_68_3_has_68_layers_of_three_times_the_inner_channels() -> None:
    model = on_meta("wrn_68_3")

    projections = sum(isinstance(m.shortcut, nn.Sequential) for m in model.modules() if isinstance(m, Residual))
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) - projections == 68
    assert model.get_submodule("stage1.0.branch.1.affine").out_channels == 3 * 64
