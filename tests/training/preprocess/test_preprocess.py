"""Every method of `conf/preprocess`: the file found is the file tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from orchestrator.base.build import build
from orchestrator.training.preprocess.statistics import Preprocess

CONF = Path(__file__).parents[3] / "conf" / "preprocess"
METHODS = sorted(path.stem for path in CONF.glob("*.yaml") if yaml.safe_load(path.read_text()))


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
    assert found[:, 1].std() < 1e-5


@pytest.mark.parametrize("name", METHODS)
def test_bytes_and_the_same_as_floats_agree(name: str) -> None:
    from_bytes = method(name)(images())(torch.from_numpy(images()))
    from_floats = method(name)(images("float32"))(torch.from_numpy(images("float32")))
    assert torch.allclose(from_bytes, from_floats, atol=1e-5)


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
