from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data import Dataset, make_dataset


def arrays(count: int = 20, classes: int = 2, dtype: Any = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.RandomState(count).randint(0, 256, (count, 3, 4, 5)).astype(dtype)
    return images, np.arange(count) % classes


def make(**changes: Any) -> Dataset:
    return make_dataset("mine", **{"train": arrays(20), "test": arrays(6), **changes})


def test_train_is_split_and_test_kept() -> None:
    data = make()
    assert {name: len(ids) for name, ids in data.splits.items()} == {"train": 16, "val": 4, "test": 6}
    assert data.splits["test"].tolist() == list(range(20, 26))
    assert np.array_equal(data.images[data.splits["test"]], arrays(6)[0])
    assert (data.num_classes, data.in_channels, data.image_size) == (2, 3, (4, 5))
    assert data.classes == ("0", "1")
    assert data.labels.dtype == np.int64


def test_a_validation_set_of_its_own_is_used_as_it_is() -> None:
    data = make(val=arrays(8), val_fraction=0.5)
    assert {name: len(ids) for name, ids in data.splits.items()} == {"train": 20, "val": 8, "test": 6}
    assert np.array_equal(data.images[data.splits["val"]], arrays(8)[0])


def test_grey_images_without_a_channel_axis_get_one() -> None:
    data = make(train=(arrays(20)[0][:, 0], arrays(20)[1]), test=(arrays(6)[0][:, 0], arrays(6)[1]))
    assert data.images.shape == (26, 1, 4, 5)


def test_float_images_become_float32() -> None:
    assert make(train=arrays(20, dtype=np.float64), test=arrays(6, dtype=np.float64)).images.dtype == np.float32


def test_the_fingerprint_follows_images_order_labels_classes_and_split() -> None:
    images, labels = arrays(20)
    other = images.copy()
    other[3, 0, 0, 0] ^= 1
    swapped = np.concatenate([images[2:], images[:2]])
    prints = [
        make().fingerprint,
        make(train=(other, labels)).fingerprint,
        make(train=(swapped, labels)).fingerprint,
        make(train=(images, 1 - labels)).fingerprint,
        make(classes=["b", "a"]).fingerprint,
        make(split_seed=1).fingerprint,
        make(val_fraction=0.3).fingerprint,
    ]
    assert make().fingerprint == prints[0]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1, 0, 1, 0], "test: labels must be from 0 to 1, row 2 is -1"),
        ([0, 1, 1, 0, 2, 7], r"test: labels must be from 0 to 1, row 4 is 2 \(2 of 6 rows are wrong\)"),
        ([0, 1, 1, 0, 1.5, 0], r"test: labels must be integers, got float64; row 4 is 1\.5"),
        ([0, 1, float("nan"), 0, 1, 0], "test: labels must be integers, got float64; row 2 is nan"),
        ([0, 1], r"test: labels must have shape \(6,\), one for each image, got \(2,\)"),
    ],
)
def test_a_wrong_label_is_named_by_its_row(labels: list[float], message: str) -> None:
    with pytest.raises(NotReadyError, match=message):
        make(test=(arrays(6)[0], np.array(labels)))


def test_pixels_that_are_not_finite_are_counted_and_refused() -> None:
    images, labels = arrays(6, dtype=np.float32)
    images[4, 0, 0, :2] = np.nan
    images[5, 0, 0, 0] = np.inf
    with pytest.raises(NotReadyError, match="test: 3 of 360 pixels are not finite, first in row 4"):
        make(train=arrays(20, dtype=np.float32), test=(images, labels))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((6, 32, 32, 3), np.uint8), r"look like \[N, H, W, C\]; give images.transpose\(0, 3, 1, 2\)"),
        (np.zeros((6, 3, 4, 5), np.int64), "images must be uint8 or floating point, got int64"),
        (np.zeros((0, 3, 4, 5), np.uint8), "not empty"),
        (np.zeros((6, 5), np.uint8), r"images must be \[N, C, H, W\] or \[N, H, W\]"),
        (np.zeros((6, 1, 4, 5), np.uint8), r"test images are uint8 \(1, 4, 5\), training images uint8 \(3, 4, 5\)"),
    ],
)
def test_images_of_the_wrong_form_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(NotReadyError, match=message):
        make(test=(images, np.arange(len(images)) % 2))


def test_a_class_without_an_example_in_a_split_is_named() -> None:
    with pytest.raises(ValueError, match="mine: the test split has no example of 'dog'"):
        make(test=(arrays(6)[0], np.zeros(6, np.int64)), classes=["cat", "dog"])
    with pytest.raises(ValueError, match=r"a split of 0\.01 leaves class '0' without a held-out example"):
        make(val_fraction=0.01)
