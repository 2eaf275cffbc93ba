"""NASNet and AmoebaNet."""

from __future__ import annotations

import pytest

import models
from models.cells import FOREIGN
from tests.models.oracle import assert_same


@pytest.mark.slow
def test_nasnet_a_large_equals_timm() -> None:
    import timm

    ours = models.create("nasnet_a_large", num_classes=10, in_channels=3, image_size=(32, 32))
    theirs = timm.create_model("nasnetalarge", num_classes=10)

    assert_same(ours, theirs, FOREIGN["nasnet"]["timm"], 32)


@pytest.mark.parametrize("size", [35, 64])
def test_with_the_filters_of_mobile_it_equals_timm(size: int) -> None:
    from timm.models.nasnet import NASNetALarge

    ours = models.create(
        "nasnet_a_mobile", num_classes=10, in_channels=3, image_size=(size, size), cells=6, skip_reduction=True
    )
    theirs = NASNetALarge(num_classes=10, stem_size=32, num_features=1056)

    assert_same(ours, theirs, FOREIGN["nasnet"]["timm"], size)
