from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from orchestrator.training.data.gaussian import gaussian


def test_vectors_are_standard_normal_and_classes_tell_nothing() -> None:
    data = gaussian(num_examples=500, dimensions=40, classes=5)
    assert (data.images.shape, data.images.dtype) == ((500, 1, 1, 40), np.float32)
    assert {name: len(ids) for name, ids in data.splits.items()} == {"train": 320, "val": 80, "test": 100}
    values = data.images.astype(np.float64).ravel()
    assert scipy.stats.kstest(values, "norm").pvalue > 1e-3
    groups = [data.images[data.labels == label].ravel() for label in range(5)]
    assert scipy.stats.f_oneway(*groups).pvalue > 1e-3


def test_the_seed_decides_everything() -> None:
    assert gaussian(seed=3).fingerprint == gaussian(seed=3).fingerprint
    assert gaussian(seed=3).fingerprint != gaussian(seed=4).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "classes must be at least 2, got 1"),
        ({"num_examples": 99}, "num_examples must be at least 10 a class, 100, got 99"),
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian(**changes)
