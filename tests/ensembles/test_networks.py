"""What networks cost where no plan says it: built from their configurations, each once, and never more than is bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ensembles.costs import MISSING, missing
from orchestrator.ensembles.gathering import gather
from orchestrator.ensembles.networks import Networks, Shape
from tests.ensembles.finished import Made, finished_sweep
from tests.ensembles.made import made_pool
from tests.serving.trained import config

FACTS = {"num_classes": 10, "in_channels": 1, "image_size": [8, 8]}


def costs(**model: Any) -> Any:
    spec = {"_target_": "models.mlp.mlp", "hidden": 2, "width": 100} | model
    return Networks(Shape.of(FACTS)).costs(config(model=spec))


def test_an_mlp_costs_what_its_layers_multiply() -> None:
    assert costs() == (64 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10, 64 * 100 + 100 * 100 + 100 * 10)
    assert costs(hidden=1, width=7) == (64 * 7 + 7 + 7 * 10 + 10, 64 * 7 + 7 * 10)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"hidden": 10**12}, "it is too large to be built only to be counted"),
        ({"width": [10**5, 1]}, "it is too large"),
        ({"width": "<script>"}, "its network cannot be built"),
        ({"depth": 3}, "its network cannot be built"),
        ({"_target_": "os.system"}, "it is none of the catalogue"),
        ({"_target_": "mine.network"}, "it is none of the catalogue"),
    ],
)
def test_what_cannot_or_should_not_be_built_has_a_reason(model: dict[str, Any], why: str) -> None:
    assert why in costs(**model)


def test_what_is_no_configuration_has_a_reason() -> None:
    networks = Networks(Shape.of(FACTS))
    assert "its network cannot be built" in networks.costs({})  # type: ignore[operator]
    assert "its network cannot be built" in networks.costs(config(norm={"_target_": "os.system"}))  # type: ignore[operator]
    assert Networks(None).costs(config()) == "nothing says how large its images are"


@pytest.mark.parametrize("size", [None, [8], [8, 0], [8, "8"], [8, 8, 8], [10**9, 8], True])
def test_images_that_cannot_be_have_no_shape(size: object) -> None:
    assert Shape.of({**FACTS, "image_size": size}) is None


def test_networks_that_differ_in_nothing_that_counts_are_built_once_and_time_is_bounded() -> None:
    now = 0.0
    networks = Networks(Shape.of(FACTS), seconds=5, clock=lambda: now)
    now = 100.0
    first = networks.costs(config())
    assert first == (64 * 24 + 24 + 24 * 10 + 10, 74 * 24), "the first one always, which loads the modules"
    now = 106.0
    assert networks.costs(config(seed=1, optimizer={"lr": 3.0})) == first, "known already"
    another = config(model={"_target_": "models.mlp.mlp", "hidden": 3, "width": 24})
    assert networks.costs(another) == "there are too many different networks to work out all of them"


def test_members_of_a_sweep_whose_plan_says_no_costs_have_them(tmp_path: Path) -> None:
    wide = {"model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 10}}
    foreign = {"model": {"_target_": "mine.network"}}
    trials = [Made(config=config()), Made(config=config() | wide), Made(config=config() | foreign)]
    finished_sweep(tmp_path / "old-0a1b2c3d", trials, facts=FACTS | {"num_classes": 3})
    pool = gather(["old"], tmp_path).pool
    found = {one.name.rpartition("/")[2]: (one.parameters, one.multiply_adds) for one in pool.members}
    of_24, of_10 = (64 * width + width + width * 3 + 3 for width in (24, 10))
    assert found == {"0": (of_24, 67 * 24), "1": (of_10, 67 * 10), "2": (None, None)}
    assert missing(pool) == {MISSING: "old-0a1b2c3d/2: its network cannot be built (it is none of the catalogue)"}


def test_what_is_missing_is_said_by_reason_once() -> None:
    pool = made_pool(5, 20)
    members = [
        replace(one, multiply_adds=None, unpriced="nobody knows" if n else None) for n, one in enumerate(pool.members)
    ]
    names = [one.name for one in members]
    said = missing(replace(pool, members=tuple(members)))[MISSING]
    assert said == f"{names[0]}: nothing says them; {names[1]} and 3 more: nobody knows"
    assert missing(replace(pool, members=tuple(replace(one, multiply_adds=1) for one in members))) == {}
