"""Every method of `conf/augment`: the file found is the file tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from orchestrator.base.build import build
from orchestrator.training.augment import Augment, Mixing, fitted

CONF = Path(__file__).parents[3] / "conf" / "augment"
METHODS = sorted(path.stem for path in CONF.glob("*.yaml") if yaml.safe_load(path.read_text()))


MIXING = ["mixup"]


def method(name: str, seen: torch.Tensor | None = None) -> Augment:
    """Fitted on the images `seen`, if it looks at any."""
    spec = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    seen = images(8) if seen is None else seen
    made = fitted(
        build({key: value for key, value in spec.items() if key != "search"}), seen.numpy(), np.arange(len(seen))
    )
    assert made is not None
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
    augmented = method(name, batch.float())(batch, generator())
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
    """Up to the rounding of bytes, once in each step."""
    batch = images() // 4 + 96  # so that no byte meets its bounds
    floats, augmented = method(name)(batch.float(), generator()), method(name)(batch, generator())
    assert torch.allclose(augmented.float(), floats, rtol=0, atol=1.01)


@pytest.mark.parametrize("name", sorted({*METHODS} - {*MIXING}))
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


def test_those_that_mix_are_known() -> None:
    assert [name for name in METHODS if isinstance(method(name), Mixing)] == MIXING


@pytest.mark.parametrize("name", METHODS)
def test_a_generator_on_another_device_than_the_images_is_no_matter(name: str) -> None:
    """Shapes alone: the meta device stands for an accelerator."""
    batch = images().to("meta")
    assert method(name)(batch, generator()).device.type == "meta"
