"""The checks shared by families and layers: both ends of each range."""

from __future__ import annotations

import math

import pytest

from models import checks


def test_both_ends_that_are_allowed() -> None:
    checks.at_least("depth", 1, 1)
    checks.positive("lr", 1e-300)
    checks.probability("dropout", 0)
    checks.probability("dropout", 0.999)
    checks.image_at_least("net", (8, 9), 8)


def test_below_the_minimum() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        checks.at_least("depth", 0, 1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_not_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match=f"scale must be positive and finite, got {value}"):
        checks.positive("scale", value)


@pytest.mark.parametrize("value", [1.0, -0.1, math.nan])
def test_not_a_probability_below_one(value: float) -> None:
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got"):
        checks.probability("dropout", value)


@pytest.mark.parametrize("size", [(7, 8), (8, 7)])
def test_image_too_small_on_either_side(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"net needs at least 8x8 images, got {size[0]}x{size[1]}"):
        checks.image_at_least("net", size, 8)
