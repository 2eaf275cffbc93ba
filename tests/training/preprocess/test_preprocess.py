"""Every method of `conf/preprocess`: the file found is the file tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from torch import nn

from orchestrator.base.build import build
from orchestrator.training.preprocess.center import center
from orchestrator.training.preprocess.statistics import Preprocess
from orchestrator.training.preprocess.whiten import whiten

CONF = Path(__file__).parents[3] / "conf" / "preprocess"
METHODS = sorted(path.stem for path in CONF.glob("*.yaml") if yaml.safe_load(path.read_text()))

MIXES_PIXELS = {"pca", "whiten"}


def method(name: str) -> Preprocess:
    spec = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    made: Preprocess = build({key: value for key, value in spec.items() if key != "search"})
    return made


def images(dtype: str = "uint8", count: int = 30) -> np.ndarray:
    found = np.random.RandomState(0).randint(0, 256, (count, 3, 4, 5)).astype(np.uint8)
    return found if dtype == "uint8" else (found / 255).astype(np.float32)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_it_gives_float32_of_the_same_shape_and_format(name: str, dtype: str) -> None:
    transform = method(name)(images(dtype))
    batch = torch.from_numpy(images(dtype))
    for given in (batch, batch.contiguous(memory_format=torch.channels_last), batch[:1], batch[:0]):
        before = given.clone()
        found = transform(given)
        assert torch.equal(given, before)
        assert (found.shape, found.dtype) == (given.shape, torch.float32)
        assert found.is_contiguous(memory_format=torch.channels_last) or given.is_contiguous()
        assert found.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_only_the_training_images_are_looked_at(name: str) -> None:
    given, train = images(), np.arange(0, 30, 2)
    other = given.copy()
    other[1::2] = 255 - other[1::2]  # what validation and test would be
    batch = torch.from_numpy(given)
    fitted = method(name)(given, train)
    assert torch.equal(fitted(batch), method(name)(other, train)(batch))
    assert torch.equal(fitted(batch), method(name)(given[train])(batch))


@pytest.mark.parametrize("name", METHODS)
def test_a_constant_channel_stays_finite(name: str) -> None:
    given = images()
    given[:, 1] = 200
    found = method(name)(given)(torch.from_numpy(given))
    assert found.isfinite().all()
    if name not in MIXES_PIXELS:
        assert found[:, 1].std() < 1e-5


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"none"}))
def test_bytes_and_the_same_as_floats_agree(name: str) -> None:
    from_bytes = method(name)(images())(torch.from_numpy(images()))
    from_floats = method(name)(images("float32"))(torch.from_numpy(images("float32")))
    # 30 images have 29 axes: rounding on the others is divided by the root of whitening's epsilon
    assert torch.allclose(from_bytes, from_floats, atol=1e-4 if name == "whiten" else 1e-5)


def test_standardize_is_the_formula() -> None:
    given = np.array([[[[0, 255]], [[51, 51]]], [[[255, 0]], [[51, 51]]]], np.uint8)
    # channel 0: values 0, 1, 1, 0, so mean and standard deviation are 1/2; channel 1 is constant
    found = method("standardize")(given)(torch.from_numpy(given))
    assert torch.allclose(found[:, 0], torch.tensor([[[-1.0, 1.0]], [[1.0, -1.0]]]), atol=1e-6)
    assert torch.allclose(found[:, 1], torch.zeros(2, 1, 2), atol=1e-6)


def test_center_and_scale_are_their_formulas() -> None:
    given = np.array([[[[0, 255]]], [[[255, 0]]]], np.uint8)
    centred = method("center")(given)(torch.from_numpy(given))
    assert torch.allclose(centred.flatten(), torch.tensor([-0.5, 0.5, 0.5, -0.5]), atol=1e-6)
    scaled = method("scale")(given)(torch.from_numpy(given))
    assert torch.allclose(scaled.flatten(), torch.tensor([0.0, 1.0, 1.0, 0.0]), atol=1e-6)


def fitted_on_itself(name: str, given: np.ndarray, **own: Any) -> torch.Tensor:
    """The training images [N, D] as the method of a file, with arguments of its own, shows them, in float64."""
    spec = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    made: Preprocess = build({key: value for key, value in spec.items() if key != "search"} | own)
    return made(given)(torch.from_numpy(given)).flatten(1).double()


def digits() -> np.ndarray:
    return np.asarray(load_digits().images[:600], np.float32).reshape(-1, 1, 8, 8) / 16


def test_property_the_mean_image_gives_every_pixel_mean_0() -> None:
    given = images(count=50)
    found = fitted_on_itself("mean_image", given)
    torch.testing.assert_close(found.mean(0), torch.zeros_like(found[0]), atol=1e-6, rtol=0)
    expected = given / 255 - (given / 255).mean(axis=0)
    torch.testing.assert_close(found, torch.from_numpy(expected).flatten(1), atol=1e-6, rtol=0)


def test_property_the_channel_mean_gives_every_channel_mean_0() -> None:
    found = fitted_on_itself("channel_mean", images()).reshape(-1, 3, 20)
    torch.testing.assert_close(found.mean((0, 2)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_property_channel_standardize_gives_every_channel_mean_0_and_std_1() -> None:
    by_channel = fitted_on_itself("channel_standardize", images()).reshape(-1, 3, 20).movedim(1, 0).flatten(1)
    torch.testing.assert_close(by_channel.mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(by_channel.std(1, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_property_standardize_pixels_is_that_of_sklearn_and_guards_constant_pixels() -> None:
    given = digits()
    found = fitted_on_itself("standardize_pixels", given)
    expected = StandardScaler().fit_transform(given.reshape(len(given), -1).astype(np.float64))
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-4, rtol=1e-4)
    constant = given.reshape(len(given), -1).std(0) == 0
    assert constant.sum() >= 2
    assert not found[:, constant].any()


def test_property_pca_decorrelates_and_keeps_distances() -> None:
    given = digits()
    found = fitted_on_itself("pca", given)
    covariance = torch.cov(found.T, correction=0)
    off_diagonal = covariance - covariance.diag().diag()
    assert off_diagonal.abs().max() < 1e-5
    assert (covariance.diag().diff() < 1e-5).all(), "the most varying axis comes first"
    flat = torch.from_numpy(given).flatten(1).double()
    torch.testing.assert_close(
        (found[1:] - found[:-1]).norm(dim=1), (flat[1:] - flat[:-1]).norm(dim=1), atol=1e-4, rtol=1e-4
    )


def test_property_pca_is_that_of_numpy_up_to_sign() -> None:
    given = digits()
    flat = given.reshape(len(given), -1).astype(np.float64)
    _, values, vectors = np.linalg.svd((flat - flat.mean(0)) / np.sqrt(len(flat)), full_matrices=False)
    expected = (flat - flat.mean(0)) @ vectors.T
    found = fitted_on_itself("pca", given).numpy()
    apart = slice(0, 20)  # where the standard deviations are well apart
    assert (values[:20] / values[1:21]).min() > 1.005
    np.testing.assert_allclose(np.abs(found[:, apart]), np.abs(expected[:, apart]), atol=1e-3)


def test_property_whitening_gives_the_covariance_1() -> None:
    draws = np.random.RandomState(0)
    mixed = (draws.randn(400, 12) @ draws.randn(12, 12)).astype(np.float32).reshape(400, 3, 2, 2)
    found = fitted_on_itself("whiten", mixed, epsilon=1e-9)
    torch.testing.assert_close(torch.cov(found.T, correction=0), torch.eye(12, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.mean(0), torch.zeros(12, dtype=torch.float64), atol=1e-4, rtol=0)


def test_property_whitening_of_rank_deficient_images_stays_finite_by_its_epsilon() -> None:
    given = digits()
    variances = torch.cov(fitted_on_itself("pca", given).T, correction=0).diag().clamp_min(0)
    found = fitted_on_itself("whiten", given, epsilon=1e-3)
    assert found.isfinite().all()
    expected = variances / (variances + 1e-3)
    torch.testing.assert_close(torch.cov(found.T, correction=0).diag(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_an_offset_is_added_to_what_comes_out(name: str) -> None:
    given = images()
    torch.testing.assert_close(
        fitted_on_itself(name, given, offset=2.0), fitted_on_itself(name, given) + 2, atol=1e-4, rtol=1e-6
    )
    with pytest.raises(ValueError, match="offset must be finite, got inf"):
        center(offset=float("inf"))


def test_none_gives_the_pixels_as_they_are() -> None:
    assert torch.equal(fitted_on_itself("none", images()), torch.from_numpy(images()).flatten(1).double())


@pytest.mark.parametrize(
    ("name", "landed"), [("unit", "scale"), ("channel_mean", "center"), ("channel_standardize", "standardize")]
)
def test_the_names_of_the_lectures_stand_for_what_has_landed(name: str, landed: str) -> None:
    specs = [yaml.safe_load((CONF / f"{one}.yaml").read_text()) for one in (name, landed)]
    assert specs[0] == specs[1]


def test_images_too_large_for_a_matrix_are_told_what_to_choose() -> None:
    given = np.zeros((2, 3, 64, 64), np.uint8)
    with pytest.raises(ValueError, match=r"whiten keeps a matrix of 12,288 x 12,288 .* choose preprocess=channel_mean"):
        method("whiten")(given)


def test_epsilon_is_checked() -> None:
    with pytest.raises(ValueError, match="epsilon must be positive and finite, got 0"):
        whiten(epsilon=0)


def majority_of_signs(inputs: torch.Tensor) -> float:
    """Of the gradient of each first-layer unit and example: the share of its entries that have the majority's sign."""
    torch.manual_seed(0)
    first = nn.Linear(inputs.shape[1], 50)
    features = first(inputs.float())
    features.retain_grad()
    nn.functional.cross_entropy(nn.Linear(50, 10)(torch.relu(features)), torch.arange(len(inputs)) % 10).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    gradients = features.grad[:, :, None] * inputs.float()[:, None, :]  # [N, units, D]: dw = da x
    positive, negative = (gradients > 0).sum(2), (gradients < 0).sum(2)
    moved = (positive + negative) > 0
    share = torch.maximum(positive, negative)[moved] / (positive + negative)[moved]
    return share.mean().item()


def test_property_positive_inputs_give_gradients_of_one_sign_and_centred_ones_do_not() -> None:
    """Why inputs are centred: CS231n lecture 6; entries of gradient 0 do not count."""
    given = digits()
    assert majority_of_signs(fitted_on_itself("unit", given)) == 1.0
    assert majority_of_signs(fitted_on_itself("unit", given, offset=2.0)) == 1.0
    assert majority_of_signs(fitted_on_itself("mean_image", given)) < 0.75
