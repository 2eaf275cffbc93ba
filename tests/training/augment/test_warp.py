"""Affine maps and boxes of single images against torchvision's, which treats one image at a time.

With a fill it darkens border pixels twice; without one it pads with zeros as we do.
"""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from orchestrator.training.augment.warp import Fill, boxes, warped


def images(count: int = 4, height: int = 11, width: int = 16) -> torch.Tensor:
    return 255 * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("angle", "shift", "scale", "shear"),
    [(0, (3, -2), 1.0, 0), (25, (0, 0), 1.0, 0), (0, (0, 0), 1.3, 0), (0, (0, 0), 1.0, 12), (-70, (2, 1), 0.8, -7)],
)
def test_an_affine_map_is_torchvisions(angle: float, shift: tuple[int, int], scale: float, shear: float) -> None:
    batch = images()
    theirs = tv.affine(
        batch, angle, list(shift), scale, [shear, 0.0], interpolation=InterpolationMode.BILINEAR, fill=None
    )
    turn, tilt = math.radians(angle), math.radians(shear)
    forward = scale * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    forward = forward @ torch.tensor([[1.0, -math.tan(tilt)], [0.0, 1.0]])
    inverse = torch.linalg.inv(forward)
    moved = -inverse @ torch.tensor(shift, dtype=torch.float32)
    ours = warped(batch, inverse.expand(4, 2, 2), moved.expand(4, 2), "zero")
    assert torch.allclose(ours, theirs, atol=0.01)


def test_every_image_has_a_map_of_its_own() -> None:
    batch = images(2)
    same, turned = torch.eye(2), -torch.eye(2)
    both = warped(batch, torch.stack([same, turned]), torch.zeros(2, 2), "zero")
    assert torch.allclose(both[0], batch[0], atol=1e-3)
    assert torch.allclose(both[1], batch[1].flip(1, 2), atol=1e-3)


@pytest.mark.parametrize(("fill", "beyond"), [("zero", [0, 0]), ("edge", [7, 7]), ("reflect", [7, 8])])
def test_what_has_no_pixel_is_filled(fill: Fill, beyond: list[int]) -> None:
    row = torch.tensor([7, 8, 9, 10], dtype=torch.uint8).expand(1, 1, 4, 4)
    moved = warped(row, torch.eye(2)[None], torch.tensor([[-2.0, 0.0]]), fill)
    assert moved[0, 0, 0].tolist() == [*reversed(beyond), 7, 8]


@pytest.mark.parametrize(("top", "left", "height", "width"), [(0, 0, 11, 16), (2, 5, 4, 9), (10, 0, 1, 16)])
def test_a_box_is_torchvisions_resized_crop(top: int, left: int, height: int, width: int) -> None:
    batch = images()
    theirs = tv.resized_crop(batch, top, left, height, width, [11, 16], antialias=True)
    ours = boxes(batch, *(torch.full((4,), float(value)) for value in (top, left, height, width)))
    assert torch.allclose(ours, theirs, atol=0.01)
