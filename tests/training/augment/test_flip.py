from __future__ import annotations

import pytest
import torch

from orchestrator.training.augment.flip import flip


def batch() -> torch.Tensor:
    return torch.randint(0, 256, (64, 3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_flipping_twice_is_doing_nothing() -> None:
    images = batch()
    twice = flip(probability=1.0)(flip(probability=1.0)(images, torch.Generator()), torch.Generator())
    assert torch.equal(twice, images)


def test_both_ends_of_the_probability() -> None:
    images = batch()
    assert torch.equal(flip(probability=0.0)(images, torch.Generator()), images)
    assert torch.equal(flip(probability=1.0)(images, torch.Generator()), images.flip(3))


def test_each_image_is_either_itself_or_its_mirror_image_and_both_occur() -> None:
    images = batch()
    found = flip()(images, torch.Generator().manual_seed(0))
    mirrored = (found == images.flip(3)).flatten(1).all(1)
    same = (found == images).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert same.any()
    assert mirrored.any()


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_probabilities_outside_0_to_1_are_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability must be from 0 to 1"):
        flip(probability=probability)
