"""The data set that a trial is given, and `make_dataset` for those who bring their own arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data.label_noise import check_label_noise, with_label_noise
from orchestrator.training.data.source import SPLITS, Contents
from orchestrator.training.data.splits import check_split, stratified_holdout
from orchestrator.training.data.subset import check_examples_per_class, class_numbers, first_of_each_class


@dataclass(frozen=True, eq=False)
class Dataset:
    """All examples of a data set and who sees which of them.

    Args:
        images: uint8 in [0, 255] or finite float32, NCHW; memory-mapped where it comes from the cache.
        labels: int64 [N], in [0, num_classes); the right ones. -1 where `data.classes` leaves the example out of all splits.
        splits: sorted int64 ids (rows of `images`) of `train`, `val` and `test`; disjoint, every class in each.
        fingerprint: SHA-256 of images, labels, class names and splits: equal exactly where predictions fit together.
            How many examples are trained on, and noise in their labels, leave it as it is.
        train_ids: those of `splits["train"]` that are trained on, sorted.
        entry: name of its entry in the cache; "" where it was made in memory.
        label_noise: the share of `train_labels` that are wrong; which ones follows from `split_seed`.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    splits: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    fingerprint: str
    train_ids: np.ndarray
    entry: str = ""
    label_noise: float = 0.0
    split_seed: int = 0

    @property
    def train_labels(self) -> np.ndarray:
        """The labels that training is told, in the order of `train_ids`."""
        right = self.labels[self.train_ids]
        return with_label_noise(right, self.num_classes, self.label_noise, self.split_seed)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)"""
        return int(self.images.shape[2]), int(self.images.shape[3])


Arrays = tuple[np.ndarray, np.ndarray]
"""Images and labels of one split."""


def make_dataset(
    name: str,
    *,
    train: Arrays,
    test: Arrays,
    val: Arrays | None = None,
    classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    examples_per_class: int | None = None,
) -> Dataset:
    """A checked Dataset from arrays; without `val`, a stratified `val_fraction` of `train` becomes the validation set.

    Args:
        train: images (uint8, or float; [N, C, H, W], or [N, H, W] for one channel) and integer labels [N].
        classes: names by class id; without them, "0", "1", ... up to the largest training label.
        label_noise: the share of the training labels that are replaced by another class.
        examples_per_class: train on so many images of each class; None takes all.

    Raises:
        ValueError: the split leaves a class without an example, a class has too few, or `val_fraction`, `split_seed`,
            `label_noise` or `examples_per_class` is out of range.
        NotReadyError: shapes, labels or pixels are wrong; the first wrong row is named.
    """
    check_split(val_fraction, split_seed)
    check_label_noise(label_noise)
    check_examples_per_class(examples_per_class)
    parts = {"train": train, "val": val, "test": test} if val is not None else {"train": train, "test": test}
    images = {split: _checked_images(f"{name}, {split}", pair[0]) for split, pair in parts.items()}
    for split, array in images.items():
        if array.shape[1:] != images["train"].shape[1:] or array.dtype != images["train"].dtype:
            raise NotReadyError(
                f"{name}: {split} images are {array.dtype} {array.shape[1:]}, "
                f"training images {images['train'].dtype} {images['train'].shape[1:]}"
            )
    labels = {split: checked_labels(f"{name}, {split}", pair[1], len(images[split])) for split, pair in parts.items()}
    if classes is None:
        classes = tuple(str(label) for label in range(int(labels["train"].max()) + 1))
    for split, array in labels.items():
        check_label_range(f"{name}, {split}", array, len(classes))
    contents = Contents(
        images=np.concatenate(list(images.values())),
        labels=np.concatenate(list(labels.values())),
        part=np.concatenate([np.full(len(array), SPLITS.index(split), np.uint8) for split, array in images.items()]),
        classes=tuple(classes),
    )
    return assemble(
        name,
        contents,
        digest(contents),
        val_fraction=val_fraction,
        split_seed=split_seed,
        label_noise=label_noise,
        examples_per_class=examples_per_class,
    )


def assemble(
    name: str,
    contents: Contents,
    contents_digest: str,
    *,
    val_fraction: float,
    split_seed: int,
    label_noise: float = 0.0,
    chosen: Sequence[str | int] | None = None,
    examples_per_class: int | None = None,
    entry: str = "",
) -> Dataset:
    """The Dataset of checked contents: a validation split is made where they have none, and every class must be in each.

    Examples keep their ids, and stay in the same split, whichever classes are chosen.

    Args:
        chosen: the classes that are left, by name or number; None leaves all.

    Raises:
        ValueError: a class has no example in a split, or too few, or is not there; it is named.
    """
    ids = {split: np.flatnonzero(contents.part == number).astype(np.int64) for number, split in enumerate(SPLITS)}
    for split in ("train", "test") if not len(ids["val"]) else SPLITS:
        counts = np.bincount(contents.labels[ids[split]], minlength=len(contents.classes))
        if absent := [name for name, count in zip(contents.classes, counts, strict=True) if not count]:
            raise ValueError(f"{name}: the {split} split has no example of {', '.join(map(repr, absent[:10]))}")
    if not len(ids["val"]):
        ids["train"], ids["val"] = stratified_holdout(
            contents.labels, ids["train"], val_fraction, split_seed, contents.classes
        )
    numbers, labels = class_numbers(chosen, contents.classes), contents.labels
    fingerprint = hashlib.sha256(contents_digest.encode())
    if chosen is not None:
        labels = _renumbered(labels, numbers, len(contents.classes))
        ids = {split: rows[labels[rows] >= 0] for split, rows in ids.items()}
        fingerprint.update(f"classes:{json.dumps(numbers)}:".encode())
    classes = tuple(contents.classes[number] for number in numbers)
    for split in SPLITS:
        fingerprint.update(f"{split}:{len(ids[split])}:".encode())
        fingerprint.update(ids[split].astype("<i8").tobytes())
    return Dataset(
        name,
        contents.images,
        labels,
        ids,
        classes,
        fingerprint.hexdigest(),
        first_of_each_class(labels, ids["train"], examples_per_class, split_seed, classes, numbers),
        entry,
        label_noise,
        split_seed,
    )


def _renumbered(labels: np.ndarray, numbers: Sequence[int], count: int) -> np.ndarray:
    """Labels by their place in `numbers`, -1 where they are not there."""
    places = np.full(count, -1, np.int64)
    places[list(numbers)] = np.arange(len(numbers))
    found: np.ndarray = places[labels]
    return found


def digest(contents: Contents) -> str:
    """SHA-256 of examples, their order, labels, given splits and class names."""
    images = contents.images
    found = hashlib.sha256(repr((images.dtype.str, images.shape, contents.classes)).encode())
    for array in (images, contents.labels, contents.part):
        found.update(np.ascontiguousarray(array).data.cast("B"))
    return found.hexdigest()


def checked_labels(where: str, labels: np.ndarray, count: int) -> np.ndarray:
    """Labels as int64 [count].

    Raises:
        NotReadyError: not one integer for each of `count` images; the first wrong row is named.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise NotReadyError(f"{where}: labels must have shape ({count},), one for each image, got {labels.shape}")
    if labels.dtype.kind not in "iu":
        wrong = 0
        if labels.dtype.kind == "f":  # a NaN or a fraction says more than the first row
            wrong = int(np.argmax(labels != np.floor(labels)))
        raise NotReadyError(f"{where}: labels must be integers, got {labels.dtype}; row {wrong} is {labels[wrong]}")
    return labels.astype(np.int64)


def check_label_range(where: str, labels: np.ndarray, num_classes: int) -> None:
    """Raises NotReadyError naming the first row whose label is outside [0, num_classes)."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise NotReadyError(
            f"{where}: labels must be from 0 to {num_classes - 1}, row {wrong[0]} is {labels[wrong[0]]} "
            f"({len(wrong)} of {len(labels)} rows are wrong)"
        )


def _checked_images(where: str, images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or 0 in images.shape:
        raise NotReadyError(f"{where}: images must be [N, C, H, W] or [N, H, W] and not empty, got {images.shape}")
    if images.shape[3] in (1, 3, 4) and images.shape[1] > 4 and images.shape[2] > 4:
        raise NotReadyError(
            f"{where}: images of shape {images.shape} look like [N, H, W, C]; give images.transpose(0, 3, 1, 2)"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise NotReadyError(f"{where}: images must be uint8 or floating point, got {images.dtype}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf and is counted below
        images = images.astype(np.float32)
    finite = np.isfinite(images)
    if not finite.all():
        row = int(np.argmin(finite.all(axis=(1, 2, 3))))
        raise NotReadyError(
            f"{where}: {int((~finite).sum())} of {images.size} pixels are not finite, first in row {row}"
        )
    return images
