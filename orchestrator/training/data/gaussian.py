"""Vectors of independent standard normal numbers, for studies of how signals pass a network: there is nothing to learn."""

from __future__ import annotations

import numpy as np

from orchestrator.training.data.dataset import Dataset, make_dataset


def gaussian(
    *,
    num_examples: int = 2000,
    dimensions: int = 500,
    classes: int = 10,
    seed: int = 0,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    examples_per_class: int | None = None,
) -> Dataset:
    """Standard normal vectors as images of one channel and one row, [N, 1, 1, dimensions], with classes in turn.

    Every fifth example of a class is for the test.

    Raises:
        ValueError: fewer than 10 examples a class, or a value out of range.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    if num_examples < 10 * classes:
        raise ValueError(f"num_examples must be at least 10 a class, {10 * classes}, got {num_examples}")
    if dimensions < 1:
        raise ValueError(f"dimensions must be at least 1, got {dimensions}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
    vectors = np.random.RandomState(seed).standard_normal((num_examples, 1, 1, dimensions)).astype(np.float32)
    labels = np.arange(num_examples) % classes
    test = (np.arange(num_examples) // classes) % 5 == 4
    return make_dataset(
        "gaussian",
        train=(vectors[~test], labels[~test]),
        test=(vectors[test], labels[test]),
        classes=[f"class {label}" for label in range(classes)],
        val_fraction=val_fraction,
        split_seed=split_seed,
        label_noise=label_noise,
        examples_per_class=examples_per_class,
    )
