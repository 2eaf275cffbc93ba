from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.training.data.synthetic import synthetic


def test_shape_classes_and_shares() -> None:
    data = synthetic(num_examples=100, classes=5, image_size=6, channels=3)
    assert data.images.shape == (100, 3, 6, 6)
    assert data.num_classes == 5
    assert {name: len(ids) for name, ids in data.splits.items()} == {"train": 65, "val": 15, "test": 20}


def test_the_seed_decides_everything() -> None:
    assert synthetic(seed=3).fingerprint == synthetic(seed=3).fingerprint
    assert synthetic(seed=3).fingerprint != synthetic(seed=4).fingerprint


def test_the_classes_can_be_learned() -> None:
    data = synthetic()
    flat = data.images.reshape(len(data.images), -1).astype(np.float64)
    train, test = data.splits["train"], data.splits["test"]
    centres = np.stack([flat[train][data.labels[train] == label].mean(axis=0) for label in range(data.num_classes)])
    nearest = np.argmin(np.linalg.norm(flat[test][:, None] - centres, axis=2), axis=1)
    assert (nearest == data.labels[test]).mean() > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "classes must be at least 2, got 1"),
        ({"num_examples": 39}, "num_examples must be at least 10 a class, 40, got 39"),
        ({"image_size": 0}, "image_size and channels must be at least 1"),
        ({"noise": -1.0}, r"noise must not be negative, got -1\.0"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic(**changes)
