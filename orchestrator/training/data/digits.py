"""scikit-learn's digits: 1,797 real 8x8 images in 10 classes, carried by the package, so that nothing is downloaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data.files import stamps
from orchestrator.training.data.source import SPLITS, Allocate, Contents, Progress, Source
from orchestrator.training.data.splits import stratified_holdout

TEST_FRACTION = 0.2
TEST_SEED = 0
"""The test split is the same whatever `split_seed` is: the set has none of its own."""


def digits(
    *,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    classes: list[str | int] | None = None,
    examples_per_class: int | None = None,
) -> Source:
    """The digits; a fixed stratified fifth is the test set.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.
    """
    return _Digits(
        name="digits",
        val_fraction=val_fraction,
        split_seed=split_seed,
        label_noise=label_noise,
        classes=classes,
        examples_per_class=examples_per_class,
    )


@dataclass(frozen=True, kw_only=True)
class _Digits(Source):
    @property
    def carried(self) -> bool:
        return True

    def key(self) -> str:
        return repr(("digits", TEST_FRACTION, TEST_SEED, stamps([_packaged_file()])))

    def decode(self, allocate: Allocate, progress: Progress) -> Contents:
        path = _packaged_file()
        try:
            table = np.loadtxt(path, delimiter=",")
            pixels, labels = table[:, :64], table[:, 64].astype(np.int64)
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise NotReadyError(f"{path} is damaged ({error}); install scikit-learn again") from error
        images = allocate((len(pixels), 1, 8, 8))
        images[:] = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)  # the file counts 0..16
        progress(len(images), len(images))
        classes = tuple(str(digit) for digit in range(10))
        _, test = stratified_holdout(labels, np.arange(len(labels)), TEST_FRACTION, TEST_SEED, classes)
        part = np.full(len(labels), SPLITS.index("train"), np.uint8)
        part[test] = SPLITS.index("test")
        return Contents(images, labels, part, classes)


def _packaged_file() -> Path:
    """Where scikit-learn keeps the file; found without importing it, which takes seconds."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise NotReadyError("data=digits needs scikit-learn, which carries the images; pip install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
