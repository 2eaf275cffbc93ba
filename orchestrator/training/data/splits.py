"""Stratified splits: every class gives the same share of its examples, and which ones depends on the seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Ids = np.ndarray[tuple[int], np.dtype[np.int64]]


def check_split(val_fraction: float, split_seed: int) -> None:
    """Raises ValueError unless 0 < val_fraction < 1 and split_seed fits numpy's seeds."""
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be more than 0 and less than 1, got {val_fraction}")
    if isinstance(split_seed, bool) or not isinstance(split_seed, int) or not 0 <= split_seed < 2**32:
        raise ValueError(f"split_seed must be an integer from 0 to {2**32 - 1}, got {split_seed}")


def stratified_holdout(
    labels: np.ndarray, ids: np.ndarray, fraction: float, seed: int, classes: Sequence[str]
) -> tuple[Ids, Ids]:
    """Splits `ids` into (kept, held out), both sorted; of each class `fraction` is held out, rounded half up.

    Args:
        labels: class ids of all examples, indexed by `ids`.

    Raises:
        ValueError: a class would be left without an example on either side; it is named.
    """
    # RandomState, not Generator: numpy promises never to change its stream, and members of an ensemble must share a split
    random = np.random.RandomState(seed)
    kept, held = [], []
    for label, name in enumerate(classes):
        members = ids[labels[ids] == label]
        count = int(fraction * len(members) + 0.5)
        if not 0 < count < len(members):
            side = "held-out" if count == 0 else "training"
            raise ValueError(
                f"a split of {fraction} leaves class {name!r} without a {side} example: it has {len(members)} in all"
            )
        shuffled = random.permutation(members)
        held.append(shuffled[:count])
        kept.append(shuffled[count:])
    return np.sort(np.concatenate(kept)).astype(np.int64), np.sort(np.concatenate(held)).astype(np.int64)
