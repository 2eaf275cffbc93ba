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
    message = f"net needs at least 8x8 images, got {size[0]}x{size[1]}"
    with pytest.raises(checks.ImageTooSmallError, match=message) as caught:
        checks.image_at_least("net", size, 8)
    assert caught.value.minimum == 8


def test_one_of() -> None:
    checks.one_of("stem", "cifar", ("imagenet", "cifar"))
    with pytest.raises(ValueError, match="stem must be one of imagenet, cifar, got none"):
        checks.one_of("stem", "none", ("imagenet", "cifar"))


def test_what_is_refused_is_a_value_error_that_can_be_told_apart() -> None:
    assert issubclass(checks.RefusedError, ValueError)
    assert not issubclass(checks.ImageTooSmallError, checks.RefusedError)


def test_takes_no_keeps_the_reasons_at_the_function() -> None:
    @checks.takes_no(stem="there is none")
    def net() -> int:
        return 3

    assert net() == 3
    assert net.takes_no == {"stem": "there is none"}  # type: ignore[attr-defined]
