"""The residual networks against torchvision's and timm's, with their weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

import models
from models.resnet import FOREIGN
from tests.models.oracle import assert_same


def torchvision_class(blocks: list[int], groups: int, width_per_group: int) -> nn.Module:
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, blocks, groups=groups, width_per_group=width_per_group)


def by_name(library: str, name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        if library == "timm":
            import timm

            return timm.create_model(name)  # type: ignore[no-any-return]
        from torchvision.models import get_model

        return get_model(name)  # type: ignore[no-any-return]

    return build


SLOW = pytest.mark.slow
ORACLES = [
    ("resnet18", "torchvision", by_name("torchvision", "resnet18")),
    pytest.param("resnet18", "timm", by_name("timm", "resnet18"), marks=SLOW),
    *[
        pytest.param(name, "torchvision", by_name("torchvision", name), marks=SLOW)
        for name in (
            *("resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
            *("wide_resnet50_2", "wide_resnet101_2"),
        )
    ],
    pytest.param("se_resnet50", "timm", by_name("timm", "seresnet50"), marks=SLOW),
    pytest.param("se_resnext50_32x4d", "timm", by_name("timm", "seresnext50_32x4d"), marks=SLOW),
    pytest.param("resnext152_32x4d", "torchvision", lambda: torchvision_class([3, 8, 36, 3], 32, 4), marks=SLOW),
    pytest.param("wrn_68_3", "torchvision", lambda: torchvision_class([3, 4, 12, 3], 1, 192), marks=SLOW),
]


@pytest.mark.parametrize(("name", "library", "theirs"), ORACLES)
def test_equals_torchvision_and_timm(name: str, library: str, theirs: Callable[[], nn.Module]) -> None:
    ours = models.create(name, num_classes=1000, in_channels=3, image_size=(32, 32))

    assert_same(ours, theirs(), FOREIGN["resnet"][library], 32)


@pytest.mark.slow
def test_the_strides_of_the_paper_equal_timms_legacy_network_but_for_its_pooling() -> None:
    """It has the authors' Caffe weights, whose pooling does not pad but takes what is left at the edge."""
    import timm

    theirs = timm.create_model("legacy_seresnet50")
    theirs.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
    ours = models.create("se_resnet50", num_classes=1000, in_channels=3, image_size=(64, 64), stride_in="first")

    assert_same(ours, theirs, FOREIGN["resnet"]["timm_legacy"], 64)
