"""Checks of arguments that families and layers share; each raises ValueError with the rule and the value received."""

from __future__ import annotations

from math import isfinite


def at_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def positive(name: str, value: float) -> None:
    if not (value > 0 and isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def probability(name: str, value: float) -> None:
    """A dropout rate is in [0, 1): at 1 nothing would be left."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


def image_at_least(what: str, image_size: tuple[int, int], minimum: int) -> None:
    height, width = image_size
    if min(height, width) < minimum:
        raise ValueError(f"{what} needs at least {minimum}x{minimum} images, got {height}x{width}")
