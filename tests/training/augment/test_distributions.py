"""Each method in distribution: torchvision's of the same settings, image by image, or what its paper says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.decomposition import PCA
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from orchestrator.training.augment import Augment
from orchestrator.training.augment.contrast_and_brightness import contrast_and_brightness
from orchestrator.training.augment.cutout import cutout
from orchestrator.training.augment.mixup import draw_beta
from orchestrator.training.augment.pca_lighting import pca_lighting
from orchestrator.training.augment.random_resized_crop import random_resized_crop
from orchestrator.training.augment.rotation import rotation
from orchestrator.training.augment.scale_jitter import scale_jitter
from orchestrator.training.augment.shearing import shearing
from orchestrator.training.augment.stretching import stretching
from orchestrator.training.augment.translation import translation

MANY = 3000
BILINEAR = InterpolationMode.BILINEAR


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(height: int = 10, width: int = 12) -> torch.Tensor:
    """Smooth, from 60 to 140, so that no factor leads out of the bytes."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([100 + 40 * torch.sin(5 * x + c) * torch.cos(4 * y) for c in range(3)])


THEIRS: list[tuple[Augment, Callable[[torch.Tensor], torch.Tensor]]] = [
    (rotation(degrees=30), v2.RandomAffine(30, interpolation=BILINEAR, fill=None)),
    (shearing(degrees=20), v2.RandomAffine(0, shear=20, interpolation=BILINEAR, fill=None)),
    (random_resized_crop(smallest=0.2), v2.RandomResizedCrop((10, 12), scale=(0.2, 1.0), antialias=True)),
    (contrast_and_brightness(contrast=0, brightness=0.3), v2.ColorJitter(brightness=0.3)),
    (contrast_and_brightness(contrast=0.3, brightness=0), v2.ColorJitter(contrast=0.3)),
]


@pytest.mark.parametrize(("ours", "theirs"), THEIRS, ids=lambda one: type(one).__name__)
def test_the_moments_of_every_pixel_are_torchvisions(ours: Augment, theirs: Callable[[Any], Any]) -> None:
    torch.manual_seed(1)
    unit = image() / 255  # torchvision keeps floats from 0 to 1
    mine = ours(unit.expand(MANY, -1, -1, -1), generator()).double()
    others = torch.stack([theirs(unit) for _ in range(MANY)]).double()
    means, spreads = (mine.mean(0), others.mean(0)), (mine.std(0), others.std(0))
    error = ((spreads[0] ** 2 + spreads[1] ** 2) / MANY).sqrt() + 1e-5
    assert ((means[0] - means[1]).abs() / error).max() < 5
    # the standard deviation of a standard deviation, from the fourth moments
    fourth = sum(((one - one.mean(0)) ** 4).mean(0) - one.var(0) ** 2 for one in (mine, others))
    error = (fourth / MANY).clamp(min=0).sqrt() / (2 * spreads[1] + 1e-6) + 1e-4
    assert ((spreads[0] - spreads[1]).abs() / error).max() < 5


def test_brightness_and_contrast_together_are_torchvisions_one_after_the_other() -> None:
    batch = image().expand(200, -1, -1, -1)
    draws = generator(4)
    lighter, sharper = (1 - 0.2 + 0.4 * torch.rand(200, generator=draws) for _ in range(2))
    ours = contrast_and_brightness(contrast=0.2, brightness=0.2)(batch, generator(4))
    for number in range(200):
        theirs = tv.adjust_brightness(batch[number] / 255, lighter[number].item())
        theirs = 255 * tv.adjust_contrast(theirs, sharper[number].item())
        assert torch.allclose(ours[number], theirs, atol=0.02)


def ramps(count: int = MANY, height: int = 21, width: int = 21) -> torch.Tensor:
    """Channels that say where a pixel came from: x, y, and 1."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x.float(), y.float(), torch.ones(height, width)]).expand(count, -1, -1, -1)


def test_translation_is_uniform_over_whole_pixels_both_ways() -> None:
    x, y, _ = translation(share=0.2)(ramps(height=11), generator()).unbind(1)
    across, down = 10 - x[:, 5, 10], 5 - y[:, 5, 10]
    for shift, most in ((across, 4), (down, 2)):
        places, counts = np.unique(shift.numpy().round(3), return_counts=True)
        assert places.tolist() == [*range(-most, most + 1)]
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.08


@pytest.mark.parametrize(("share", "most"), [(0.03, 1), (0.0, 0)])
def test_the_smallest_translation_is_by_one_pixel(share: float, most: int) -> None:
    x, _, _ = translation(share=share)(ramps(), generator()).unbind(1)
    across = 10 - x[:, 5, 10]
    assert sorted(set(across.numpy().round(3).tolist())) == [*range(-most, most + 1)]


def test_scale_jitter_takes_224_of_256_to_480() -> None:
    x, y, _ = scale_jitter()(ramps(), generator()).unbind(1)
    across = x[:, 10, 14] - x[:, 10, 6]
    down = y[:, 14, 10] - y[:, 6, 10]
    assert torch.allclose(across, down, atol=1e-3), "the same factor for both sides"
    factor = 8 / across
    assert scipy.stats.kstest(factor.numpy(), scipy.stats.uniform(256 / 224, 224 / 224).cdf).pvalue > 1e-3
    room = 21 - 21 / factor
    left = x[:, 10, 10] - 10 + room / 2  # the window's start: 0 to the room that is left
    assert scipy.stats.kstest((left / room).numpy(), "uniform").pvalue > 1e-3


def test_stretching_scales_both_sides_independently_and_log_uniformly() -> None:
    x, y, _ = stretching(factor=1.5, fill="edge")(ramps(), generator()).unbind(1)
    across, down = (x[:, 10, 12] - x[:, 10, 8]) / 4, (y[:, 12, 10] - y[:, 8, 10]) / 4
    uniform = scipy.stats.uniform(-1, 2).cdf
    for factor in (across, down):
        assert scipy.stats.kstest((factor.log() / np.log(1.5)).numpy(), uniform).pvalue > 1e-3
    assert abs(np.corrcoef(across.log(), down.log())[0, 1]) < 0.08
    assert torch.allclose(x[:, 10, 10], torch.tensor(10.0), atol=1e-3), "the center stays"


def test_cutout_blackens_a_square_around_any_pixel() -> None:
    white = torch.full((MANY, 1, 8, 12), 255, dtype=torch.uint8)
    black = cutout(size=0.5)(white, generator())[:, 0] == 0
    rows, columns = black.any(2).sum(1), black.any(1).sum(1)
    assert torch.equal(black.sum((1, 2)), rows * columns), "a rectangle"
    assert (rows.max(), columns.max(), rows.min(), columns.min()) == (4, 4, 2, 2), "cut off by the border"
    # by hand: row i is black for centers i - 1 to i + 2 of 0 to 7
    expected = np.array([sum(c - 2 <= i < c + 2 for c in range(8)) / 8 for i in range(8)])
    assert np.abs(black.any(2).double().mean(0).numpy() - expected).max() < 5 * np.sqrt(0.25 / MANY)


@pytest.mark.parametrize("channels", [1, 3])
def test_lighting_moves_pixels_along_the_principal_components_of_the_training_images(channels: int) -> None:
    draw = np.random.default_rng(5)
    mixing = draw.normal(size=(channels, channels))
    pixels = np.einsum("cd,ndhw->nchw", mixing, draw.normal(size=(40, channels, 6, 7))) * 20 + 100
    ids = np.arange(5, 35)
    fitted = pca_lighting(std=0.1).fitted(pixels, ids)  # type: ignore[attr-defined]
    flat = torch.full((20_000, channels, 1, 1), 100.0)
    moved = fitted(flat, generator()).view(-1, channels).double().numpy() - 100
    pca = PCA().fit(pixels[ids].transpose(0, 2, 3, 1).reshape(-1, channels))
    expected = 0.01 * np.atleast_2d(pca.get_covariance())
    assert np.abs(np.atleast_2d(np.cov(moved.T)) - expected).max() < 0.05 * np.abs(expected).max()
    batch = torch.rand(3, channels, 4, 4) * 255
    difference = fitted(batch, generator()) - batch
    assert torch.allclose(difference, difference[:, :, :1, :1].expand_as(batch), atol=1e-3), "all pixels alike"


@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0, 8.0])
def test_weights_of_mixup_are_of_the_beta_distribution(alpha: float) -> None:
    drawn = draw_beta(20_000, alpha, generator()).double().numpy()
    if alpha < 0.5:  # float32 has no numbers between most of them and 1
        inside = scipy.stats.beta(alpha, alpha).cdf(0.999) - scipy.stats.beta(alpha, alpha).cdf(0.001)
        assert abs(((drawn > 0.001) & (drawn < 0.999)).mean() - inside) < 5 * np.sqrt(inside / 20_000)
    else:
        assert scipy.stats.kstest(drawn, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3
