"""Images brought to the size that a network is meant for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Resize(nn.Module):
    """Images (N, C, H, W) whose shorter side becomes `size` and whose longer side keeps its proportion, rounded down.

    Bilinear with antialiasing, as torchvision's `resize`; images of that size stay as they are.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        shorter = min(height, width)
        if shorter == self.size:
            return x
        size = (self.size * height // shorter, self.size * width // shorter)
        return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)

    def extra_repr(self) -> str:
        return str(self.size)

    def own_facts(self) -> dict[str, int]:
        return {"resized_to": self.size}
