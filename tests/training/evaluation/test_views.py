"""Views against torchvision's own, and the mean over them against probabilities averaged by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn
from torchvision.transforms import functional as tv

from orchestrator.training import evaluate
from orchestrator.training.batches import Split
from orchestrator.training.evaluation.flips import flips
from orchestrator.training.evaluation.multi_scale import multi_scale
from orchestrator.training.evaluation.ten_crops import ten_crops
from orchestrator.training.evaluation.views import Views, distinct, shown, ten


def bytes_of(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def split_of(stored: Tensor, labels: Tensor | None = None) -> Split:
    count = len(stored)
    labels = torch.zeros(count, dtype=torch.int64) if labels is None else labels
    return Split(np.arange(count), labels, stored, torch.arange(count), lambda images: images.float() / 255, None)


def network(*shape: int, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 16), nn.Tanh(), nn.Linear(16, classes))


def seen(evaluation: Any, stored: Tensor) -> list[Tensor]:
    assert isinstance(evaluation, Views)
    return [*shown(stored, distinct(evaluation.listed(*stored.shape[-2:])))]


@pytest.mark.parametrize(("high", "wide"), [(7, 7), (5, 8), (4, 3), (9, 11)])
def test_ten_windows_are_those_of_torchvisions_ten_crop(high: int, wide: int) -> None:
    stored = bytes_of(2, 3, 9, 11)
    windows = ten(9, 11, high, wide)
    cut = [
        (stored.flip(-1) if v.mirrored else stored)[..., v.top : v.top + v.high, v.left : v.left + v.wide]
        for v in windows
    ]
    expected = tv.ten_crop(stored, [high, wide])
    assert len(cut) == 10
    assert all(torch.equal(one, other) for one, other in zip(cut, expected, strict=True))


@pytest.mark.parametrize("size", [0.875, 28])
def test_ten_crops_are_torchvisions_brought_to_the_size_of_the_network(size: float) -> None:
    stored = bytes_of(3, 1, 32, 32)
    found = seen(ten_crops(size=size), stored)
    expected = [tv.resize(crop, [32, 32], antialias=False) for crop in tv.ten_crop(stored, [28, 28])]
    assert len(found) == 10
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.uint8
        torch.testing.assert_close(one, other, atol=1, rtol=0)  # of two neighbours a half may be rounded to either


def test_multi_scale_has_50_views_of_which_scale_1_leaves_two() -> None:
    views = multi_scale()
    assert isinstance(views, Views)
    assert len(views.listed(32, 32)) == 50
    assert views.passes((32, 32)) == 4 * 10 + 2
    assert multi_scale(scales=[256 / 224, 384 / 224, 480 / 224, 640 / 224, 3]).passes((32, 32)) == 50
    assert {(v.height, v.width) for v in views.listed(224, 224)} == {(s, s) for s in (224, 256, 384, 480, 640)}
    assert {(v.high, v.wide) for v in views.listed(224, 224)} == {(224, 224)}


def test_multi_scale_views_are_torchvisions_resize_and_ten_crop() -> None:
    stored = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    found = seen(multi_scale(scales=[8 / 7, 2]), stored)
    expected = [
        crop for side in (16, 28) for crop in tv.ten_crop(tv.resize(stored, [side, side], antialias=False), [14, 14])
    ]
    assert len(found) == 20
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "evaluation", [flips(), ten_crops(), multi_scale(scales=[1.0, 1.2, 2.0])], ids=["flips", "ten_crops", "multi_scale"]
)
def test_flip_invariant_prediction(evaluation: Any) -> None:
    """Of odd sides, too, whose center is none of whole pixels; the ordinary inference is not invariant."""
    model, stored = network(2, 9, 11), bytes_of(6, 2, 9, 11)
    one, other = (evaluate.logits(model, split_of(s), evaluation=evaluation) for s in (stored, stored.flip(-1)))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    plain, mirrored = (evaluate.logits(model, split_of(s)) for s in (stored, stored.flip(-1)))
    assert not torch.allclose(plain, mirrored, atol=1e-3)


def test_a_flip_undoes_itself_and_leaves_the_shape() -> None:
    stored = bytes_of(2, 3, 5, 6)
    plain, mirrored = seen(flips(), stored)
    assert torch.equal(plain, stored)
    assert mirrored.shape == stored.shape
    assert torch.equal(seen(flips(), mirrored)[1], stored)


@pytest.mark.parametrize("evaluation", [flips(), ten_crops(size=6), multi_scale()], ids=["flips", "ten", "multi"])
def test_what_is_stored_is_the_logarithm_of_the_mean_probability(
    evaluation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averaged by hand; stored as logits are, so that a softmax gives it back; whatever the slices."""
    monkeypatch.setattr(evaluate, "EXAMPLES_AT_ONCE", 3)
    model, stored = network(1, 8, 8), bytes_of(7, 1, 8, 8)
    said = evaluate.logits(model, split_of(stored), evaluation=evaluation)
    with torch.no_grad():
        each = [torch.softmax(model(view.float() / 255).double(), 1) for view in seen(evaluation, stored)]
    assert said.dtype == torch.float32
    assert torch.equal(said.amax(1), torch.zeros(7))
    torch.testing.assert_close(torch.softmax(said.double(), 1), sum(each) / len(each), atol=1e-6, rtol=0)


def test_nll_of_the_mean_is_at_most_the_mean_nll_jensen() -> None:
    model, stored = network(1, 8, 8), bytes_of(50, 1, 8, 8)
    labels = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(2))
    evaluation = ten_crops(size=0.75)
    said = evaluate.logits(model, split_of(stored, labels), evaluation=evaluation).double()
    with torch.no_grad():
        each = [torch.softmax(model(view.float() / 255).double(), 1) for view in seen(evaluation, stored)]
    of_views = [log_loss(labels, one, labels=range(4)) for one in each]
    assert log_loss(labels, torch.softmax(said, 1), labels=range(4)) < sum(of_views) / len(of_views)


def test_improbable_classes_have_finite_logarithms() -> None:
    """A probability of exp(-2000) is 0 in float64."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    nn.init.constant_(model[1].weight[:1], 0)
    nn.init.constant_(model[1].weight[1:], 500)
    said = evaluate.logits(model, split_of(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)), evaluation=flips())
    assert said.tolist() == [[-2000, 0]]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ten_crops(size=0), "size must be a share above 0 and at most 1, or whole pixels, got 0"),
        (lambda: ten_crops(size=5.5), "whole pixels, got 5.5"),
        (lambda: ten_crops(size=9).check(nn.Identity(), (1, 8, 12)), "size=9 is larger than the images, got 8x12"),
        (lambda: multi_scale(scales=[]), "1 to 100 numbers from 1 to 16, got"),
        (lambda: multi_scale(scales=[1, 0.5]), "from 1 to 16, got"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()
