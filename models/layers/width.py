"""How a width factor changes the channels of a network."""

from __future__ import annotations


def scaled(channels: int, width: float, *, divisor: int = 1) -> int:
    """`channels` times `width`, rounded to the nearest multiple of `divisor`, at least that.

    Args:
        divisor: such as the number of groups of a convolution.
    """
    return max(divisor, round(channels * width / divisor) * divisor)


def scaled_to_eight(channels: float, width: float = 1.0) -> int:
    """The channels of the MobileNets and EfficientNets: a multiple of 8, and not below nine tenths of the exact value.

    Source: Sandler et al. 2018, arXiv:1801.04381, in the authors' code; torchvision and timm do the same.
    """
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded
