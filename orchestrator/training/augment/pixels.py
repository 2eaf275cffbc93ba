"""Bytes and floats, random numbers, and the checks that methods share."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def as_floats(images: Tensor) -> Tensor:
    """float32, in the same units, channel after channel: what is computed of them does not depend on the memory format."""
    return images.to(torch.float32, memory_format=torch.contiguous_format)


def like(images: Tensor, found: Tensor) -> Tensor:
    """Results in the dtype and memory format of the images; floats, which are overwritten, become bytes rounded and kept from 0
    to 255."""
    if images.dtype == torch.uint8 and found.is_floating_point():
        found = found.round_().clamp_(0, 255)
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return found.to(images.dtype).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def draw_between(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`count` numbers, uniform from `low` to `high`; float32, on the generator's device."""
    return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)


def per_image(values_N: Tensor, images: Tensor) -> Tensor:
    """A number of each image, as it multiplies the images."""
    return values_N.to(images.device)[:, None, None, None]


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raises ValueError unless `value` is from `low` to `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value:g}")
