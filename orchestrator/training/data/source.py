"""What stands behind a data set that is decoded once a machine: where it lies, and how its files become arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.training.data.label_noise import check_label_noise
from orchestrator.training.data.splits import check_split
from orchestrator.training.data.subset import check_classes, check_examples_per_class

SPLITS = ("train", "val", "test")

Allocate = Callable[[tuple[int, int, int, int]], np.memmap]
"""Gives the uint8 array [N, C, H, W], on disk and shared, that a source decodes into."""

Progress = Callable[[int, int], None]
"""Told from time to time how many examples of how many are decoded."""


@dataclass(frozen=True, eq=False)
class Contents:
    """Every example of a data set before the validation split.

    Args:
        images: NCHW.
        labels: int64 [N].
        part: uint8 [N], index into `SPLITS`; without a `val`, it is later taken from `train`.
        classes: names by class id.
    """

    images: np.ndarray
    labels: np.ndarray
    part: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Files that are decoded once into the cache; made by a target in `conf/data`, which touches no file yet."""

    name: str
    val_fraction: float
    split_seed: int
    label_noise: float = 0.0
    classes: Sequence[str | int] | None = None
    examples_per_class: int | None = None

    def __post_init__(self) -> None:
        check_split(self.val_fraction, self.split_seed)
        check_label_noise(self.label_noise)
        check_classes(self.classes)
        check_examples_per_class(self.examples_per_class)

    @property
    def carried(self) -> bool:
        """Whether it comes with a package and is read in no time, so that it needs no cache to be looked at."""
        return False

    def ready(self) -> bool:
        """Whether the files are where they should be; where not, `fetch` is called, by one process at a time."""
        return True

    def fetch(self) -> None:  # noqa: B027  (most sources have nothing to fetch)
        """Brings the files.

        Raises:
            NotReadyError: it cannot; the message says what to put where.
        """

    @abstractmethod
    def key(self) -> str:
        """Everything that the arrays depend on: paths, sizes and times of the files, and how they are decoded.

        Raises:
            NotReadyError: the files are missing or not as they should be.
        """

    @abstractmethod
    def decode(self, allocate: Allocate, progress: Progress) -> Contents:
        """Reads the files into `allocate(shape)`.

        Raises:
            NotReadyError: a file is damaged; it is named.
        """
