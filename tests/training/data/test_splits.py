from __future__ import annotations

import numpy as np
import pytest

from orchestrator.training.data.splits import check_split, stratified_holdout

CLASSES = ("cat", "dog", "emu")


def test_each_class_gives_its_share_and_nothing_is_lost() -> None:
    labels = np.array([0] * 10 + [1] * 20 + [2] * 5)
    kept, held = stratified_holdout(labels, np.arange(35), 0.2, 0, CLASSES)
    assert np.bincount(labels[held]).tolist() == [2, 4, 1]
    assert np.bincount(labels[kept]).tolist() == [8, 16, 4]
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(35))
    assert np.array_equal(held, np.sort(held))
    assert np.array_equal(kept, np.sort(kept))


def test_only_the_given_ids_are_split() -> None:
    labels = np.array([0, 1, 2] * 10)
    ids = np.arange(30)[6:]
    kept, held = stratified_holdout(labels, ids, 0.5, 0, CLASSES)
    assert set(kept) | set(held) == set(ids)


def test_same_seed_same_split_and_another_seed_another() -> None:
    labels = np.arange(300) % 3
    splits = [stratified_holdout(labels, np.arange(300), 0.3, seed, CLASSES)[1] for seed in (0, 0, 1)]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_the_split_of_a_seed_never_changes() -> None:
    # stored predictions of earlier versions fit only as long as this holds
    _, held = stratified_holdout(np.arange(12) % 3, np.arange(12), 0.25, 0, CLASSES)
    assert held.tolist() == [1, 6, 11]


@pytest.mark.parametrize(("fraction", "side"), [(0.05, "held-out"), (0.95, "training")])
def test_a_class_that_would_be_empty_is_named(fraction: float, side: str) -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2] * 4)
    with pytest.raises(ValueError, match=f"class 'emu' without a {side} example: it has 4 in all"):
        stratified_holdout(labels, np.arange(44), fraction, 0, CLASSES)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_fractions_outside_0_to_1_are_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="val_fraction must be more than 0 and less than 1"):
        check_split(fraction, 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_seeds_that_numpy_cannot_take_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="split_seed must be an integer from 0 to 4294967295"):
        check_split(0.2, seed)
