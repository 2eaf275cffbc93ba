"""Views of an image: windows of it, enlarged or not, as it is and mirrored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.training.augment.pixels import as_floats, like
from orchestrator.training.evaluation.base import Image, Look


@dataclass(frozen=True)
class View:
    """A window of an image.

    Args:
        height, width: of the image, which is brought to this size first.
        top, left, high, wide: the window.
        mirrored: whether the image is mirrored left to right before the window is cut out.
    """

    height: int
    width: int
    top: int
    left: int
    high: int
    wide: int
    mirrored: bool


class Views(ABC):
    """Averages over views, each of the size that the network takes. Views that coincide are one."""

    @abstractmethod
    def listed(self, height: int, width: int) -> list[View]:
        """All views of images of this size, some maybe several times."""

    def check(self, model: nn.Module, image: Image) -> None:
        del model
        self.listed(*image[1:])

    def passes(self, image_size: tuple[int, int]) -> int:
        return len(distinct(self.listed(*image_size)))

    def answers(self, model: nn.Module, look: Look, stored: Tensor, first: int) -> Iterator[Tensor]:
        del model, first
        yield from map(look, shown(stored, distinct(self.listed(stored.shape[-2], stored.shape[-1]))))


def distinct(views: list[View]) -> list[View]:
    """Each once, in their order."""
    return [*dict.fromkeys(views)]


def ten(height: int, width: int, high: int, wide: int) -> list[View]:
    """Four corners and the center, then those of the mirrored image: the windows of torchvision's `ten_crop`, in its order.

    Args:
        height, width: of the image, at least `high` and `wide` of the windows.
    """
    bottom, right = height - high, width - wide
    center = (round(bottom / 2), round(right / 2))
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), center]
    return [View(height, width, top, left, high, wide, mirrored) for mirrored in (False, True) for top, left in corners]


def shown(stored: Tensor, views: list[View]) -> Iterator[Tensor]:
    """The images as each view shows them, all of the size of the images.

    Sizes are changed bilinearly; bytes stay bytes. Views of one size of the image stand together, so that it is made once.
    """
    size, image = (stored.shape[-2], stored.shape[-1]), stored
    for view in views:
        if image.shape[-2:] != (view.height, view.width):
            image = _resized(stored, (view.height, view.width))
        whole = image.flip(-1) if view.mirrored else image
        window = whole[..., view.top : view.top + view.high, view.left : view.left + view.wide]
        yield window.contiguous() if (view.high, view.wide) == size else _resized(window, size)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return like(images, F.interpolate(as_floats(images), size, mode="bilinear", align_corners=False))
