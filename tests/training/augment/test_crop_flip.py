from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from orchestrator.training.augment.crop import crop
from orchestrator.training.augment.crop_flip import crop_flip


def test_without_flips_it_is_crop() -> None:
    images = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    both = (method(images, torch.Generator().manual_seed(0)) for method in (crop(), crop_flip(probability=0.0)))
    assert torch.equal(*both)


def test_every_image_is_a_window_of_the_padded_image_or_its_mirror_image() -> None:
    images = torch.rand(40, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    found = crop_flip(padding=2)(images, torch.Generator().manual_seed(0))
    windows = F.pad(images, (2, 2, 2, 2)).unfold(2, 6, 1).unfold(3, 6, 1).flatten(2, 3)  # [40, 2, 25, 6, 6]
    plain = (windows == found[:, :, None]).all(dim=4).all(dim=3).all(dim=1).any(dim=1)
    mirrored = (windows == found.flip(3)[:, :, None]).all(dim=4).all(dim=3).all(dim=1).any(dim=1)
    assert (plain ^ mirrored).all()
    assert plain.any()
    assert mirrored.any()


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="padding must be at least 1, got 0"):
        crop_flip(padding=0)
    with pytest.raises(ValueError, match="probability must be from 0 to 1, got 2"):
        crop_flip(probability=2)
