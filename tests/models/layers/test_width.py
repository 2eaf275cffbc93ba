"""Channels under a width factor."""

from __future__ import annotations

import pytest

from models.layers.width import scaled, scaled_to_eight


@pytest.mark.parametrize(
    ("channels", "width", "divisor", "result"),
    [(64, 1.0, 1, 64), (64, 0.3, 1, 19), (64, 0.3, 8, 16), (64, 2, 32, 128), (64, 0.001, 1, 1), (64, 0.001, 32, 32)],
)
def test_the_nearest_multiple_and_at_least_one(channels: int, width: float, divisor: int, result: int) -> None:
    assert scaled(channels, width, divisor=divisor) == result


@pytest.mark.parametrize(
    ("channels", "width", "result"),
    # 32 * 0.35 = 11.2 -> 8 would be less than nine tenths of it; 16 * 0.75 = 12 -> 16: halves round up
    [(32, 1.0, 32), (32, 0.35, 16), (16, 0.75, 16), (24, 0.75, 24), (96, 0.5, 48), (3, 1.0, 8), (88, 0.1, 8)],
)
def test_multiples_of_eight(channels: int, width: float, result: int) -> None:
    assert scaled_to_eight(channels, width) == result


@pytest.mark.slow  # importing timm takes seconds
def test_it_is_what_timm_does() -> None:
    from timm.layers import make_divisible

    for channels in range(1, 400, 7):
        for width in (0.25, 0.5, 0.75, 1.0, 1.1, 1.4, 2.0):
            assert scaled_to_eight(channels, width) == make_divisible(channels * width, 8), (channels, width)
