"""Random brightness, then random contrast, as torchvision's `adjust_brightness` and `adjust_contrast`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.training.augment import Augment
from orchestrator.training.augment.pixels import as_floats, check_between, draw_between, like, per_image

LUMA = (0.2989, 0.587, 0.114)
"""Of red, green and blue in gray: ITU-R BT.601."""


def contrast_and_brightness(*, contrast: float = 0.4, brightness: float = 0.4) -> Augment:
    """Multiplies each image by a factor from 1 - `brightness` to 1 + `brightness`, and its distance from its own mean gray by one
    from 1 - `contrast` to 1 + `contrast`.

    Raises:
        ValueError: `contrast` or `brightness` is not in [0, 1].
    """
    check_between("contrast", contrast, 0, 1)
    check_between("brightness", brightness, 0, 1)
    return _ContrastAndBrightness(contrast, brightness)


@dataclass(frozen=True)
class _ContrastAndBrightness:
    contrast: float
    brightness: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        lighter_N, sharper_N = (
            draw_between(len(images), 1 - most, 1 + most, generator) for most in (self.brightness, self.contrast)
        )
        lighter, sharper = per_image(lighter_N, images), per_image(sharper_N, images)
        floats = as_floats(images)
        gray = lighter * mean_gray(floats)
        return like(images, torch.addcmul((1 - sharper) * gray, floats, lighter * sharper))


def mean_gray(images: Tensor) -> Tensor:
    """Of each image, [N, 1, 1, 1]; of other than three channels the plain mean."""
    means_NC = images.mean((2, 3))
    if images.shape[1] == len(LUMA):
        means_NC = means_NC * torch.tensor(LUMA, device=images.device) * len(LUMA)
    return means_NC.mean(1)[:, None, None, None]
