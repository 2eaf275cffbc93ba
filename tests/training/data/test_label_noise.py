"""Noise in training labels: exact, of other classes alone, and seen by training only."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from orchestrator.base.build import resolve
from orchestrator.training.batches import place
from orchestrator.training.data import Dataset, load, make_dataset
from orchestrator.training.data.label_noise import with_label_noise

CONF = Path(__file__).parents[3] / "conf" / "data"
RIGHT = np.arange(1000) % 10


def synthetic(**changes: float) -> Dataset:
    return load({"_target_": "orchestrator.training.data.synthetic.synthetic", **changes})


@pytest.mark.parametrize("share", [0.2, 0.4, 0.123, 1.0])
def test_exactly_the_share_of_labels_is_wrong(share: float) -> None:
    noisy = with_label_noise(RIGHT, 10, share, 0)
    assert (noisy != RIGHT).sum() == round(share * 1000)
    assert noisy.min() >= 0
    assert noisy.max() < 10


def test_every_other_class_is_as_likely() -> None:
    """Chi-squared of the 9 wrong classes, 9,000 draws of five seeds: below the 0.1 % point of 40 degrees of freedom, 73.4."""
    right, total = np.full(9_000, 3), 0.0
    for seed in range(5):
        counts = np.bincount(with_label_noise(right, 10, 1.0, seed), minlength=10)
        assert counts[3] == 0
        total += ((np.delete(counts, 3) - 1000) ** 2 / 1000).sum()
    assert total < 73.4


def test_wrong_examples_are_spread_over_the_classes() -> None:
    """Wrong ones of a class are hypergeometric: of 100 each, 40 +- 4.7; within 4 standard deviations."""
    wrong = RIGHT[with_label_noise(RIGHT, 10, 0.4, 0) != RIGHT]
    assert np.abs(np.bincount(wrong, minlength=10) - 40).max() < 4 * 4.7


def test_more_noise_adds_to_less_and_another_seed_is_other_noise() -> None:
    little, much = (with_label_noise(RIGHT, 10, share, 0) for share in (0.2, 0.4))
    wrong = little != RIGHT
    assert np.array_equal(little[wrong], much[wrong])
    assert np.array_equal(much, with_label_noise(RIGHT, 10, 0.4, 0))
    assert not np.array_equal(much, with_label_noise(RIGHT, 10, 0.4, 1))


def test_no_noise_is_the_labels_themselves() -> None:
    assert with_label_noise(RIGHT, 10, 0, 0) is RIGHT


def test_the_noise_of_a_seed_never_changes() -> None:
    # a trial that continues under a later version has to go on with the labels that it began with
    assert with_label_noise(np.arange(8) % 4, 4, 0.5, 0).tolist() == PINNED


PINNED = [1, 3, 2, 1, 0, 1, 0, 3]


def test_training_alone_is_told_wrong_labels() -> None:
    clean, noisy = synthetic(), synthetic(label_noise=0.4)
    train = noisy.splits["train"]
    data = place(noisy, {}, lambda: None, torch.device("cpu"))
    assert (data.splits["train"].labels.numpy() != noisy.labels[train]).mean() == pytest.approx(
        0.4, abs=0.5 / len(train)
    )
    for split in ("val", "test"):
        assert np.array_equal(data.splits[split].labels.numpy(), clean.labels[clean.splits[split]])


def test_predictions_of_trials_with_other_noise_fit_together() -> None:
    clean, noisy = synthetic(), synthetic(label_noise=0.4)
    assert noisy.fingerprint == clean.fingerprint
    assert np.array_equal(noisy.labels, clean.labels)
    assert all(np.array_equal(noisy.splits[name], ids) for name, ids in clean.splits.items())


def test_the_next_trial_of_a_process_gets_its_own_labels() -> None:
    """The images of one trial are kept for the next; the labels are of each."""
    seen = [
        place(synthetic(label_noise=share), {}, lambda: None, torch.device("cpu")).splits["train"].labels
        for share in (0.0, 0.4, 0.0)
    ]
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="label_noise must be from 0 to 1, got"):
        make_dataset(
            "mine", train=(np.zeros((4, 1, 2, 2), np.uint8), [0, 1] * 2), test=(np.zeros((2, 1, 2, 2), np.uint8), [0, 1]),
            label_noise=share,
        )  # fmt: skip


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_set_passes_it_on(path: Path, tmp_path: Path) -> None:
    target = resolve(yaml.safe_load(path.read_text())["_target_"])
    root = {"root": str(tmp_path)} if "root" in inspect.signature(target).parameters else {}
    assert target(**root, label_noise=0.3).label_noise == 0.3
    with pytest.raises(ValueError, match="label_noise must be from 0 to 1"):
        target(**root, label_noise=2.0)
