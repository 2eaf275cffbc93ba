"""Every data set of `conf/data`: its YAML says what its target takes, with the same defaults."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from orchestrator.base.build import check, parameters, resolve

CONF = Path(__file__).parents[3] / "conf" / "data"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_choice_lists_every_argument_with_its_default(path: Path) -> None:
    spec = yaml.safe_load(path.read_text())
    spec.pop("search", None)
    assert check("data", spec) == []
    defaults = {name: p.default for name, p in parameters(resolve(spec.pop("_target_"))).items()}
    assert inspect.Parameter.empty not in defaults.values()
    assert spec == defaults
