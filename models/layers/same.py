"""Padding such that a layer of stride s gives ceil(size / s) positions, as TensorFlow's SAME: below and right, if odd."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]


class SamePad(nn.Module):
    """The padding alone, of a map (N, C, H, W).

    Args:
        kernel_size: with its dilation: height and width of what one output sees.
        value: what is put around the map.
    """

    def __init__(self, kernel_size: Pair, stride: Pair, *, value: float = 0.0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        height, width = (
            max(-(-size // stride) * stride - stride + kernel - size, 0)
            for size, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2), value=self.value)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, value={self.value}"


def same_max_pool(kernel_size: int, stride: int) -> nn.Module:
    """The largest value below an odd kernel."""
    if stride == 1:
        return nn.MaxPool2d(kernel_size, 1, padding=kernel_size // 2)
    pad = SamePad((kernel_size, kernel_size), (stride, stride), value=float("-inf"))
    return nn.Sequential(pad, nn.MaxPool2d(kernel_size, stride))


def same_average_pool(kernel_size: int, stride: int) -> nn.Module:
    """The mean below an odd kernel: over the map alone at stride 1, but with the zeros around it at a larger stride.

    So does timm, whose weights are read. TensorFlow leaves the zeros out at every stride.
    """
    if stride == 1:
        return nn.AvgPool2d(kernel_size, 1, padding=kernel_size // 2, count_include_pad=False)
    return nn.Sequential(SamePad((kernel_size, kernel_size), (stride, stride)), nn.AvgPool2d(kernel_size, stride))
