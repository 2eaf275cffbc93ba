from __future__ import annotations

import pytest
import torch

from orchestrator.training.augment.crop import crop


def test_every_image_moves_on_its_own_by_at_most_the_padding() -> None:
    images = torch.zeros(400, 1, 7, 7)
    images[:, 0, 3, 3] = 1  # a point at the centre shows where each image went
    moved = crop(padding=2)(images, torch.Generator().manual_seed(0))
    places = {(int(y), int(x)) for _, _, y, x in moved.nonzero()}
    assert places == {(y, x) for y in range(1, 6) for x in range(1, 6)}


def test_what_comes_in_from_outside_is_zero() -> None:
    moved = crop(padding=4)(torch.ones(50, 1, 4, 4), torch.Generator().manual_seed(0))
    assert set(moved.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("padding", [0, -1])
def test_padding_below_one_is_refused(padding: int) -> None:
    with pytest.raises(ValueError, match=f"padding must be at least 1, got {padding}"):
        crop(padding=padding)
