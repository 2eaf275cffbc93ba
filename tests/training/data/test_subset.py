"""Some classes of a data set, and so many training images of each: which ones, and what stays as it is."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from orchestrator.base.build import resolve
from orchestrator.base.costs import MULTIPLY_ADDS, key_of, trial_multiply_adds
from orchestrator.training.batches import place
from orchestrator.training.data import Dataset, load, make_dataset
from orchestrator.training.data.subset import class_numbers

CONF = Path(__file__).parents[3] / "conf" / "data"
DIGITS = "orchestrator.training.data.digits.digits"


def digits(**changes: Any) -> Dataset:
    return load({"_target_": DIGITS, **changes})


def synthetic(**changes: Any) -> Dataset:
    return load({"_target_": "orchestrator.training.data.synthetic.synthetic", **changes})


def counts(data: Dataset) -> list[int]:
    return np.bincount(data.labels[data.train_ids], minlength=data.num_classes).tolist()


# Classes --------------------------------------------------------------------------------------------------------------


def test_examples_keep_their_ids_and_splits_whichever_classes_are_chosen() -> None:
    whole, chosen = digits(), digits(classes=[7, 2, 9])
    assert chosen.classes == ("7", "2", "9")
    assert np.array_equal(chosen.images, whole.images)
    for name, ids in whole.splits.items():
        assert np.array_equal(chosen.splits[name], ids[np.isin(whole.labels[ids], [7, 2, 9])])
        assert np.array_equal(
            np.array([7, 2, 9])[chosen.labels[chosen.splits[name]]], whole.labels[chosen.splits[name]]
        )


def test_numbers_and_names_are_the_same_classes() -> None:
    numbers, names = digits(classes=[5, 6]), digits(classes=["5", "6"])
    assert numbers.fingerprint == names.fingerprint
    assert np.array_equal(numbers.labels, names.labels)


def test_other_classes_or_another_order_have_another_fingerprint() -> None:
    prints = [digits(**kw).fingerprint for kw in ({}, {"classes": [5, 6]}, {"classes": [6, 5]}, {"classes": [5, 7]})]
    assert len(set(prints)) == 4
    assert digits(classes=None).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ([5], "classes must be at least 2, or null for all, got"),
        ([5, 5], "classes must be different ones"),
        ([5, "5"], "classes must be different ones"),
        ([5, 10], "classes must be from 0 to 9, or names, got 10"),
        ([5, -1], "classes must be from 0 to 9, or names, got -1"),
        ([5, "seven"], "classes has 'seven', which is no class of these data; there are 0, 1, 2, 3"),
    ],
)
def test_classes_that_cannot_be_are_refused(chosen: list[Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        digits(classes=chosen)


def test_a_number_that_is_the_name_of_another_class_is_ambiguous() -> None:
    """Folders that are sorted by name: 10 comes before 2."""
    names = ["0", "1", "10", "2"]
    assert class_numbers([0, 1], names) == [0, 1]
    assert class_numbers(["10", "2"], names) == [2, 3]
    with pytest.raises(ValueError, match="classes has 2, which may mean the class called '2' or number 2 of all, '10'"):
        class_numbers([0, 2], names)


# Examples -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 50])
def test_every_class_has_so_many(count: int) -> None:
    assert counts(digits(examples_per_class=count)) == [count] * 10


def test_fewer_are_a_subset_of_more_and_all_of_the_training_split() -> None:
    few, more = (digits(examples_per_class=count) for count in (5, 20))
    assert set(few.train_ids) < set(more.train_ids) < set(more.splits["train"])


def test_they_are_the_first_of_a_permutation_that_the_seed_decides() -> None:
    """Against numpy alone; pinned, since a trial continues with what it began with."""
    data, stream = digits(examples_per_class=3, split_seed=4), 0x66657700
    train = data.splits["train"]
    expected = np.concatenate(
        [
            np.random.RandomState([4, stream, label]).permutation(train[data.labels[train] == label])[:3]
            for label in range(10)
        ]
    )
    assert data.train_ids.tolist() == sorted(expected.tolist())


def test_another_seed_takes_others() -> None:
    images = np.zeros((40, 1, 2, 2), np.uint8), np.arange(40) % 2
    one, other = (
        make_dataset("mine", train=images, val=images, test=images, examples_per_class=5, split_seed=seed)
        for seed in (0, 1)
    )
    assert np.array_equal(one.splits["train"], other.splits["train"])
    assert not np.array_equal(one.train_ids, other.train_ids)


def test_those_of_a_class_do_not_depend_on_the_other_classes() -> None:
    whole, chosen = digits(examples_per_class=6), digits(examples_per_class=6, classes=[9, 3])
    of_both = whole.train_ids[np.isin(whole.labels[whole.train_ids], [9, 3])]
    assert np.array_equal(chosen.train_ids, of_both)


def test_validation_test_and_fingerprint_know_nothing_of_it() -> None:
    whole, few = digits(), digits(examples_per_class=2)
    assert few.fingerprint == whole.fingerprint
    assert all(np.array_equal(few.splits[name], ids) for name, ids in whole.splits.items())
    assert np.array_equal(whole.train_ids, whole.splits["train"])


def test_a_class_with_fewer_is_named_with_how_many_it_has() -> None:
    images, labels = np.zeros((12, 1, 2, 2), np.uint8), np.array([0] * 8 + [1] * 4)
    both = {"train": (images, labels), "val": (images, labels), "test": (images, labels)}
    whole = make_dataset("mine", **both, classes=["cat", "dog"], examples_per_class=4)
    assert counts(whole) == [4, 4]
    why = "examples_per_class must be at most 4, the training images that class 'dog' has, got 5"
    with pytest.raises(ValueError, match=why):
        make_dataset("mine", **both, classes=["cat", "dog"], examples_per_class=5)


@pytest.mark.parametrize("count", [0, -3, 1.5, True])
def test_a_number_that_cannot_be_is_refused(count: Any) -> None:
    pair = np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1] * 2)
    with pytest.raises(ValueError, match="examples_per_class must be at least 1, or null for all, got"):
        make_dataset("mine", train=pair, test=pair, examples_per_class=count)


# In training ----------------------------------------------------------------------------------------------------------


def test_training_alone_sees_fewer_and_the_next_trial_its_own() -> None:
    """The images of one trial are kept for the next; what is trained on is of each."""
    for count, expected in ((None, None), (3, 3), (5, 5), (3, 3)):
        data = synthetic(examples_per_class=count)
        splits = place(data, {}, lambda: None, torch.device("cpu")).splits
        assert len(splits["train"]) == (4 * expected if expected else len(data.splits["train"]))
        assert np.array_equal(splits["train"].ids, data.train_ids)
        assert np.array_equal(splits["train"].labels.numpy(), data.labels[data.train_ids])
        assert {name: len(splits[name]) for name in ("val", "test")} == {"val": 80, "test": 100}


def test_preprocessing_is_fitted_on_what_is_trained_on() -> None:
    data = synthetic(examples_per_class=3)
    spec = {"_target_": "orchestrator.training.preprocess.mean_image"}
    told: list[np.ndarray] = []

    def preprocess(images: np.ndarray, rows: np.ndarray) -> Any:
        told.append(rows)
        return lambda stored: stored.float()

    place(data, spec, lambda: preprocess, torch.device("cpu"))
    assert np.array_equal(told[0], data.train_ids)


def test_noise_is_a_share_of_what_is_trained_on() -> None:
    data = synthetic(examples_per_class=10, label_noise=0.25)
    assert (data.train_labels != data.labels[data.train_ids]).sum() == 10


def test_a_trial_costs_what_it_sees() -> None:
    config = {"data": {"_target_": DIGITS, "examples_per_class": 5}, "model": {"_target_": "m"}}
    facts = {MULTIPLY_ADDS: {key_of(config): [100, 7]}, "train": 1150, "num_classes": 10}
    assert trial_multiply_adds(facts, config, epochs=3) == (100 * 3 + 7) * 50
    whole = {**config, "data": {"_target_": DIGITS, "examples_per_class": None}}
    assert trial_multiply_adds(facts, whole, epochs=3) == (100 * 3 + 7) * 1150


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_set_passes_it_on(path: Path, tmp_path: Path) -> None:
    target = resolve(yaml.safe_load(path.read_text())["_target_"])
    root = {"root": str(tmp_path)} if "root" in inspect.signature(target).parameters else {}
    with pytest.raises(ValueError, match="examples_per_class must be at least 1"):
        target(**root, examples_per_class=0)
    if path.stem not in ("synthetic", "gaussian"):  # which make as many classes as they are told
        assert target(**root, classes=[1, 0], examples_per_class=3).classes == [1, 0]
        with pytest.raises(ValueError, match="classes must be at least 2"):
            target(**root, classes=[1])
