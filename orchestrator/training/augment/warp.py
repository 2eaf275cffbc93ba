"""Resampling every image of a batch by an affine map of its own, bilinear, in one call."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from orchestrator.training.augment.pixels import as_floats, like

Fill = Literal["zero", "reflect", "edge"]
"""What stands where a map has no pixel of the image: black, the image mirrored at its border, or its outermost pixels."""

MODES = {"zero": "zeros", "reflect": "reflection", "edge": "border"}


def warped(images: Tensor, matrix_N22: Tensor, shift_N2: Tensor, fill: Fill) -> Tensor:
    """Each image under its own affine map: the pixel at p shows what the image has at A p + t.

    Args:
        images: [N, C, H, W].
        matrix_N22: A of each image; p is (x, y) in pixels from the center, to the right and down.
        shift_N2: t of each image, in pixels.
    """
    count, _, height, width = images.shape
    if not count:
        return images.clone()
    half = torch.tensor([width / 2, height / 2])
    theta_N23 = torch.cat([matrix_N22.cpu() * half / half[:, None], (shift_N2.cpu() / half)[:, :, None]], dim=2)
    grid = F.affine_grid(theta_N23.to(images.device), [count, 1, height, width], align_corners=False)
    return sampled(images, grid, fill)


def sampled(images: Tensor, grid_NHW2: Tensor, fill: Fill) -> Tensor:
    """The images [N, C, H, W] at places (x, y) of a grid, -1 to 1 from border to border."""
    floats = F.grid_sample(as_floats(images), grid_NHW2, mode="bilinear", padding_mode=MODES[fill], align_corners=False)
    return like(images, floats)


def boxes(images: Tensor, top_N: Tensor, left_N: Tensor, height_N: Tensor, width_N: Tensor) -> Tensor:
    """A box of each image, enlarged to the size of the image; no pixel outside of the box counts.

    Args:
        images: [N, C, H, W].
        top_N, left_N, height_N, width_N: of each box, in pixels; inside the image.
    """
    count, _, height, width = images.shape
    if not count:
        return images.clone()
    y_NH = _places(top_N, height_N, height)
    x_NW = _places(left_N, width_N, width)
    grid = torch.stack([x_NW[:, None, :].expand(-1, height, -1), y_NH[:, :, None].expand(-1, -1, width)], dim=3)
    return sampled(images, grid.to(images.device), "edge")


def _places(start_N: Tensor, length_N: Tensor, size: int) -> Tensor:
    """Where the `size` pixels of an enlarged interval lie in the whole, -1 to 1; [N, size]."""
    start_N, length_N = start_N.float(), length_N.float()
    inside = (torch.arange(size, device=start_N.device) + 0.5) / size
    pixel = (inside * length_N[:, None] - 0.5).clamp(min=0)
    pixel = start_N[:, None] + torch.minimum(pixel, length_N[:, None] - 1)
    return (2 * pixel + 1) / size - 1
