"""Wrong labels in the training split, on purpose: how a method bears them is seen on validation and test, which stay right."""

from __future__ import annotations

import numpy as np


def check_label_noise(share: float) -> None:
    """Raises ValueError unless 0 <= share <= 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"label_noise must be from 0 to 1, got {share}")


def with_label_noise(labels: np.ndarray, num_classes: int, share: float, seed: int) -> np.ndarray:
    """Labels of which exactly `share`, rounded half up, are replaced by one of the other classes, each as likely.

    The right class is not drawn again, so that the share is that of wrong labels. With one seed, the examples that are wrong at
    a small share are wrong at a larger one, too, and in the same way.

    Args:
        labels: int64 [N], in [0, num_classes).

    Source: symmetric noise, as in Han et al. 2018, Co-teaching, arXiv:1804.06872.
    """
    if share == 0 or num_classes < 2:
        return labels
    random = np.random.RandomState([seed, _STREAM])
    order = random.permutation(len(labels))
    steps = random.randint(1, num_classes, len(labels))
    wrong = order[: int(share * len(labels) + 0.5)]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + steps[wrong]) % num_classes
    return noisy


_STREAM = 0x6E6F6973
"""Apart from what the seed decides by itself, the split."""
