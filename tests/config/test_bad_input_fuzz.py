"""Random command lines: whatever is typed, there is a plan or a message, never a traceback, and nothing is created."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestrator.base.build import build
from orchestrator.base.errors import OrchestratorError
from orchestrator.config.plan import SweepPlan, describe_plan, trial_config
from orchestrator.config.planning import compose_job, plan
from orchestrator.training import preflight
from orchestrator.training.data import Dataset
from orchestrator.training.data.synthetic import synthetic

_KEYS = """optimizer optimizer.lr optimizer.momentum norm norm.eps norm.num_groups model model.width model.depth init init.scale
search experiment sampler sampler.points scheduler scheduler.grace_epochs trials epochs seed batch_size name runs_dir tracking
tracking.uri cluster cluster.address allowed_targets data data.val_fraction metric mode precision device ~optimizer.lr ~norm +x
++model.width hydra.x space when.x model.width.x max_concurrent gpus_per_trial augment loss penalty x@y a/b search.space .. .a
data_cache time_budget_s cpus_per_trial schedule preprocess"""
_VALUES = """1 0 -1 2.5 true null abc sgd adam sgd,adam glob(*) glob([a*,s*],exclude=adam) choice(sgd,adam,rmsprop) range(1,10)
range(0,1,0.1) interval(0,1) tag(log,interval(1e-4,1)) int(interval(1,5)) tag(log,int(interval(1,100))) batch,none group
gaussian,xavier [1,2] {a:1} [1,2],[3,4] all depth none quickstart resnet_cifar,mlp resnet_cifar weight_scale_plateau grid tpe asha
nan 1e400 'a ${epochs} ${nope} ${oc.env:HOME} ${a} choice(1,null) range(5,1) shuffle(1,2) float(range(1,3)) str(1,2) server ray
local val/loss max min cuda:0 1,1 true,false 0.1,0.2 choice([],[1]) é [a,b] 0.5 http://h:1 sqlite:////x.db"""
NOISE = "()[]{},=.:'\"$~+@/\\ \t\n#é0a"


def command_line(draw: Random) -> list[str]:
    """One to three overrides, one in ten with a stray character."""
    overrides = []
    for _ in range(draw.randint(1, 3)):
        key = draw.choice(_KEYS.split())
        text = key if key.startswith("~") else f"{key}={draw.choice([*_VALUES.split(), ''])}"
        if draw.random() < 0.1:
            place = draw.randrange(len(text) + 1)
            text = text[:place] + draw.choice(NOISE) + text[place:]
        overrides.append(text)
    return overrides


def load_nothing(config: dict[str, Any], progress: object) -> Dataset:
    """In place of what touches files: the target refuses what it refuses, but no data are fetched or decoded."""
    del progress
    assert isinstance(config["data_cache"], str | None)
    build(config["data"])
    return synthetic(num_examples=200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_any_command_line_gives_a_plan_or_a_message(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "load_data", load_nothing)
    monkeypatch.chdir(tmp_path)
    draw = Random(seed)
    for _ in range(60):
        overrides = command_line(draw)
        try:
            made = plan(overrides)
        except OrchestratorError:
            continue
        except Exception as error:
            raise AssertionError(f"{overrides} end in a traceback") from error
        assert describe_plan(made)
        assert compose_job(overrides)
        assert SweepPlan.from_json(made.to_json()) == made
        for u in (0.0, 0.5, 0.999):
            params = made.space.from_unit([u] * len(made.space.parameters))
            assert made.space.contains(params) == [], overrides
            trial_config(made, params)
    assert list(tmp_path.iterdir()) == []
