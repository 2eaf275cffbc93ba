"""Augmentations one after the other, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from orchestrator.training.augment import Mixing
from orchestrator.training.augment.cutout import cutout
from orchestrator.training.augment.flip import flip
from orchestrator.training.augment.sequence import sequence


def test_the_steps_follow_one_another() -> None:
    batch = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    draws = torch.Generator().manual_seed(2)
    expected = cutout(size=0.25)(flip()(batch, draws), draws)
    ours = sequence(steps=["flip", {"cutout": {"size": 0.25}}])(batch, torch.Generator().manual_seed(2))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(("name", "landed"), [("horizontal_flip", "flip"), ("padded_crop", "crop")])
def test_the_words_of_the_lectures_stand_for_what_has_landed(name: str, landed: str) -> None:
    conf = Path(__file__).parents[3] / "conf" / "augment"
    assert yaml.safe_load((conf / f"{name}.yaml").read_text()) == yaml.safe_load((conf / f"{landed}.yaml").read_text())
    batch = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    one, other = (sequence(steps=[step])(batch, torch.Generator().manual_seed(2)) for step in (name, landed))
    assert torch.equal(one, other)


def test_a_list_of_the_catalogue_stands_for_its_steps() -> None:
    batch = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8)
    short, long = (
        sequence(steps=steps)(batch, torch.Generator().manual_seed(2))
        for steps in (["rotation", "standard_cifar", {"cutout": {"size": 0.25}}], LONG)
    )
    assert torch.equal(short, long)


LONG = ["rotation", "crop", "flip", {"cutout": {"size": 0.25}}]
"""The same by hand: standard_cifar crops, then flips."""


@pytest.mark.parametrize("name", ["standard_cifar", "alexnet", "resnet"])
def test_lists_of_the_catalogue_may_stand_in_lists(name: str) -> None:
    assert isinstance(sequence(steps=[name, {name: {}}, "mixup"]), Mixing)


def test_without_steps_images_stay() -> None:
    batch = torch.zeros(2, 1, 3, 3)
    assert torch.equal(sequence(steps=[])(batch, torch.Generator()), batch)


def test_it_mixes_where_its_last_step_does() -> None:
    assert isinstance(sequence(steps=["flip", "mixup"]), Mixing)
    assert not isinstance(sequence(steps=["flip"]), Mixing)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            ["flop"],
            "there is no augmentation 'flop' for a list; nearest: flip; known: alexnet, contrast_and_",
        ),
        (["sequence"], "there is no augmentation 'sequence'"),
        (["warp"], "there is no augmentation 'warp'"),
        ([{"cutout": {"size": 2}}], "cutout: size must be more than 0"),
        ([{"cutout": {"sizes": 0.5}}], "cutout.sizes: unknown key"),
        (
            [{"cutout": 0.5}],
            r"the arguments of cutout must be a mapping, as in \{cutout: \{argument: value\}\}; got 0.5",
        ),
        ([{"flip": {}, "cutout": {}}], "a step is a name, or a name with its arguments"),
        (
            [{"alexnet": {"size": 3}}],
            r"a list and takes no arguments; .*: \[\{scale_jitter: \{.*\}\},flip,pca_lighting\]",
        ),
        (["mixup", "standard_cifar"], "mixup mixes preprocessed images: put it last"),
        (["mixup", "flip"], "mixup mixes preprocessed images: put it last"),
    ],
)
def test_a_wrong_step_is_told(steps: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sequence(steps=steps)
