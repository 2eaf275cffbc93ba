"""A made-up data set for tests: each class is a smooth pattern under noise, so that a network can learn it in seconds."""

from __future__ import annotations

import numpy as np

from orchestrator.training.data.dataset import Dataset, make_dataset


def synthetic(
    *,
    num_examples: int = 500,
    classes: int = 4,
    image_size: int = 8,
    channels: int = 1,
    noise: float = 0.3,
    seed: int = 0,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    label_noise: float = 0.0,
    examples_per_class: int | None = None,
) -> Dataset:
    """Images of `classes` patterns in equal shares; every fifth example of a class is for the test.

    Args:
        noise: standard deviation of the pixels' noise, in units of the patterns' own; 0 makes it trivial.

    Raises:
        ValueError: fewer than 10 examples a class, or a value out of range.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    if num_examples < 10 * classes:
        raise ValueError(f"num_examples must be at least 10 a class, {10 * classes}, got {num_examples}")
    if image_size < 1 or channels < 1:
        raise ValueError(f"image_size and channels must be at least 1, got {image_size} and {channels}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
    random = np.random.RandomState(seed)
    labels = np.arange(num_examples) % classes
    patterns = _smooth(random.standard_normal((classes, channels, image_size, image_size)))
    images = patterns[labels] + noise * random.standard_normal((num_examples, channels, image_size, image_size))
    pixels = np.clip(np.rint(127.5 + 50 * images), 0, 255).astype(np.uint8)
    test = (np.arange(num_examples) // classes) % 5 == 4
    return make_dataset(
        "synthetic",
        train=(pixels[~test], labels[~test]),
        test=(pixels[test], labels[test]),
        classes=[f"class {label}" for label in range(classes)],
        val_fraction=val_fraction,
        split_seed=split_seed,
        label_noise=label_noise,
        examples_per_class=examples_per_class,
    )


def _smooth(patterns: np.ndarray) -> np.ndarray:
    """Patterns averaged over 3x3 neighbours, as a torus, with mean 0 and standard deviation 1 over all."""
    smooth: np.ndarray = patterns
    for axis in (2, 3):
        smooth = (np.roll(smooth, -1, axis) + smooth + np.roll(smooth, 1, axis)) / 3
    smooth -= smooth.mean()
    smooth /= max(float(smooth.std()), 1e-6)
    return smooth
