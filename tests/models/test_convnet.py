"""The small convolutional network."""

from __future__ import annotations

import pytest
import torch

from models.convnet import convnet


def test_parameters_by_hand() -> None:
    model = convnet(num_classes=10, in_channels=3, image_size=(32, 32), stages=2, width=16)

    convolutions = 9 * 3 * 16 + 9 * 16 * 32
    norms = 2 * 16 + 2 * 32
    classifier = 32 * 8 * 8 * 10 + 10
    assert sum(parameter.numel() for parameter in model.parameters()) == convolutions + norms + classifier


def test_odd_and_oblong_images() -> None:
    model = convnet(num_classes=4, in_channels=1, image_size=(9, 20))

    assert model(torch.zeros(2, 1, 9, 20)).shape == (2, 4)


def test_smallest_image_leaves_one_position() -> None:
    model = convnet(num_classes=4, in_channels=1, image_size=(8, 8), stages=3, width=4)

    assert model.get_submodule("classifier").weight.shape == (4, 16)  # type: ignore[union-attr]


def test_too_small_image_is_refused() -> None:
    with pytest.raises(ValueError, match="convnet of 4 stages needs at least 16x16 images, got 8x8"):
        convnet(num_classes=10, in_channels=1, image_size=(8, 8), stages=4)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"stages": 0}, "stages must be at least 1, got 0"),
        ({"width": -1}, "width must be at least 1, got -1"),
        ({"dropout": -0.5}, r"dropout must be in \[0, 1\), got -0.5"),
    ],
)
def test_own_values_are_checked(own: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convnet(num_classes=10, in_channels=1, image_size=(8, 8), **own)  # type: ignore[arg-type]
