"""The split as verify reckons it, where a trial has some classes of its data alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.training.data import load
from orchestrator.verify.data_split import own_split
from orchestrator.verify.rules import PartlyChecked

DIGITS = "orchestrator.training.data.digits.digits"


def trial(**data: Any) -> Any:
    config = {"data": {"_target_": DIGITS, **data}}
    return SimpleNamespace(suggested=SimpleNamespace(config=config), sweep=SimpleNamespace(memo={}))


@pytest.mark.parametrize("chosen", [None, [9, 2, 4], ["9", "2", "4"]])
def test_it_is_that_of_the_data_set(chosen: list[Any] | None) -> None:
    dataset = load({"_target_": DIGITS, "classes": chosen, "split_seed": 3})
    for name, (ids, labels) in own_split(trial(classes=chosen, split_seed=3, examples_per_class=2)).items():
        assert np.array_equal(ids, dataset.splits[name])
        assert np.array_equal(labels, dataset.labels[ids])


@pytest.mark.parametrize("chosen", [["x", "y"], [0, 99], [0, [1]], [0, {}], [0, 1.5]])
def test_classes_that_are_not_there_are_told(chosen: list[Any]) -> None:
    with pytest.raises(PartlyChecked, match="the data set has not the classes"):
        own_split(trial(classes=chosen))
