"""Every choice of the engine's groups in conf builds with its defaults, trains, and searches over arguments that it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.base.build import parameters, resolve
from orchestrator.base.groups import PROVIDED
from orchestrator.training.trial import train

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("optimizer", "schedule", "loss", "penalty", "augment", "preprocess", "transfer", "early_stopping", "evaluate")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]

OF_ITS_OWN = {
    "lesion": {"_target_": "models.residual_mlp.residual_mlp", "units": 2, "width": 12},
    "column": {"_target_": "models.fractalnet.fractalnet", "columns": 2, "blocks": 1, "filters": 4},
}
"""Choice -> the network that it is meant for."""


def spec_of(group: str, name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text()) or {}


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_choice_trains(trial: Callable[..., Any], group: str, name: str) -> None:
    spec = spec_of(group, name)
    spec.pop("search", None)
    model = OF_ITS_OWN.get(name, {"_target_": "models.mlp.mlp", "hidden": 2, "width": 12, "dropout": 0.1})
    results = list(train(trial("", **{group: spec, "epochs": 2, "model": model})))
    assert len(results) == 2


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_choice_sets_and_searches_what_its_target_has(group: str, name: str) -> None:
    spec = spec_of(group, name)
    search = spec.pop("search", {})
    if spec:
        known = set(parameters(resolve(spec.pop("_target_")), PROVIDED.get(group, ())))
        assert set(spec) == known, "a choice shows every argument, so that users find it"
        assert set(search) <= known
