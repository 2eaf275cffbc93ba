"""Checks of arguments that families and layers share; each raises ValueError with the rule and the value received."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class RefusedError(ValueError):
    """A choice that makes no sense for an architecture, such as a normalization where there is nothing to normalize."""


class ImageTooSmallError(ValueError):
    """The images are smaller than an architecture can take.

    Args:
        minimum: the smallest height and width that it takes with these settings.
    """

    def __init__(self, message: str, minimum: int) -> None:
        super().__init__(message)
        self.minimum = minimum


def takes_no(**reasons: str) -> Callable[[Function], Function]:
    """Says why an architecture lacks a common argument: `@takes_no(stem="it has no convolutions")`.

    `models.create` and the command line give the reason to whoever sets it.
    """

    def mark(function: Function) -> Function:
        function.takes_no = reasons  # type: ignore[attr-defined]
        return function

    return mark


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


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value}")


def image_at_least(what: str, image_size: tuple[int, int], minimum: int) -> None:
    height, width = image_size
    if min(height, width) < minimum:
        raise ImageTooSmallError(f"{what} needs at least {minimum}x{minimum} images, got {height}x{width}", minimum)
