from __future__ import annotations

import torch
import torch.nn.functional as F

from orchestrator.training.augment.window import draw_flags, draw_offsets, mirror, windows


def test_each_window_is_the_one_cut_by_slicing() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (81, 2, 5, 7), generator=generator, dtype=torch.uint8)
    top, left = torch.arange(81) // 9, torch.arange(81) % 9  # every place that there is
    mirrored = torch.arange(81) % 2 == 1
    found = windows(images, 4, top, left, mirrored)
    padded = F.pad(images, (4, 4, 4, 4))
    for i in range(81):
        expected = padded[i, :, top[i] : top[i] + 5, left[i] : left[i] + 7]
        assert torch.equal(found[i], expected.flip(2) if mirrored[i] else expected)


def test_the_middle_place_is_the_image_itself() -> None:
    images = torch.arange(60.0).view(2, 1, 5, 6)
    middle = torch.full((2,), 3)
    assert torch.equal(windows(images, 3, middle, middle), images)


def test_mirroring_is_that_of_the_flagged_alone() -> None:
    images = torch.arange(24.0).view(2, 2, 2, 3)
    found = mirror(images, torch.tensor([False, True]))
    assert torch.equal(found[0], images[0])
    assert found[1].tolist() == [[[14.0, 13.0, 12.0], [17.0, 16.0, 15.0]], [[20.0, 19.0, 18.0], [23.0, 22.0, 21.0]]]


def test_offsets_are_uniform_over_both_ends() -> None:
    # 9 values, 90,000 draws: each count is binomial with mean 10,000 and standard deviation 94; 4.5 of them is passed by a
    # uniform draw in all but 6 of 100,000 seeds (9 counts), and the seed is fixed
    counts = torch.bincount(draw_offsets(90_000, 8, torch.Generator().manual_seed(0)), minlength=9)
    assert len(counts) == 9
    assert (counts - 10_000).abs().max() < 4.5 * 94


def test_flags_have_their_probability() -> None:
    # 40,000 draws at 1/4: standard deviation 87
    count = int(draw_flags(40_000, 0.25, torch.Generator().manual_seed(0)).sum())
    assert abs(count - 10_000) < 4.5 * 87
