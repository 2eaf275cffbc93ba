"""Every method of `conf/augment`: the file found is the file tested."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from orchestrator.base.build import build
from orchestrator.training.augment import Augment

CONF = Path(__file__).parents[3] / "conf" / "augment"
METHODS = sorted(path.stem for path in CONF.glob("*.yaml") if yaml.safe_load(path.read_text()))


def method(name: str) -> Augment:
    spec = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    made: Augment = build({key: value for key, value in spec.items() if key != "search"})
    return made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 16, channels: int = 3, height: int = 12, width: int = 10) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, height, width), generator=generator(9), dtype=torch.uint8)


def test_none_builds_nothing() -> None:
    assert build(yaml.safe_load((CONF / "none.yaml").read_text()) or {}) is None


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_dtype_stay(name: str, dtype: torch.dtype, channels: int) -> None:
    batch = images(channels=channels).to(dtype)
    augmented = method(name)(batch, generator())
    assert (augmented.shape, augmented.dtype) == (batch.shape, dtype)
    assert augmented.is_contiguous()


@pytest.mark.parametrize("name", METHODS)
def test_channels_last_stays_and_changes_nothing_else(name: str) -> None:
    batch = images()
    last = method(name)(batch.contiguous(memory_format=torch.channels_last), generator())
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, method(name)(batch, generator()))


@pytest.mark.parametrize("name", METHODS)
def test_bytes_and_floats_get_the_same(name: str) -> None:
    batch = images()
    assert torch.equal(method(name)(batch, generator()).float(), method(name)(batch.float(), generator()))


@pytest.mark.parametrize("name", METHODS)
def test_the_generator_decides_and_the_batch_given_is_not_changed(name: str) -> None:
    batch = images(count=64)
    before = batch.clone()
    first, again, other = (method(name)(batch, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("name", METHODS)
def test_one_image_and_none(name: str) -> None:
    assert method(name)(images(1), generator()).shape == (1, 3, 12, 10)
    assert method(name)(images(0), generator()).shape == (0, 3, 12, 10)
