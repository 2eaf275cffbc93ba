"""The average of a trial's last epochs: torch's own class is the oracle, and what is off costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel

from orchestrator.base.layout import AVERAGE
from orchestrator.base.records import Trial
from orchestrator.base.settings import settings_problems
from orchestrator.training import checkpoint
from orchestrator.training.averaging import first_epoch
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Trial]
NORM = {"_target_": "models.layers.norm.batch_norm"}


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": NORM, "average_from": 0.4},
        {"average_from": 0.0, "schedule": {"_target_": "orchestrator.training.schedules.cosine"}},
        {
            "average_from": 0.5,
            "norm": NORM,
            "model": {"_target_": "models.convnet.convnet", "stages": 2, "width": 4},
            "transfer": {"_target_": "orchestrator.training.transfer.top_layers", "layers": 1},
        },
    ],
)
def test_it_is_what_torchs_own_class_gives(trial: MakeTrial, changes: dict[str, Any]) -> None:
    run = TrialRun(trial("averaged", epochs=5, **changes))
    theirs = AveragedModel(run._learner.whole)
    first = {0.4: 3, 0.0: 1, 0.5: 3}[changes["average_from"]]
    for result in run:
        if result.epoch >= first:
            theirs.update_parameters(run._learner.whole)
    run.finish()
    path = Path(run.trial.folder) / AVERAGE
    wanted = {name.removeprefix("module."): one for name, one in theirs.state_dict().items() if name != "n_averaged"}
    found = load_file(path)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.allclose(found[name].double(), tensor.double(), rtol=0, atol=1e-7), name
    state = checkpoint.load(path, uid=run.trial.uid).state
    assert state["epochs"] == 5 - first + 1
    assert state["inputs"]["classes"]


@pytest.mark.parametrize(
    ("share", "epochs", "first"),
    [(None, 10, None), (0.75, 10, 8), (0.7, 10, 8), (0.0, 3, 1), (0.29, 100, 30), (0.99, 2, 2), (0.5, 1, 1)],
)
def test_the_first_epoch(share: float | None, epochs: int, first: int | None) -> None:
    """The first that lies behind this share of the epochs, whole ones as they would be by hand."""
    assert first_epoch({"average_from": share, "epochs": epochs}) == first


def test_without_it_nothing_is_written(trial: MakeTrial) -> None:
    run = TrialRun(trial("plain"))
    for _ in run:
        saved = run.save()
    run.finish()
    assert not (Path(run.trial.folder) / AVERAGE).exists()
    assert not [name for name in load_file(saved.path) if name.startswith("average/")]


def test_a_checkpoint_before_the_first_average_has_none(trial: MakeTrial) -> None:
    run = TrialRun(trial("late", average_from=0.5))
    next(run)
    saved = run.save()
    assert not [name for name in load_file(saved.path) if name.startswith("average/")]


def test_shares_that_make_no_sense_are_refused() -> None:
    assert [problem.why for problem in settings_problems({"average_from": 1.0})] == ["must be at most 0.99"]
    assert [problem.why for problem in settings_problems({"average_from": -0.5})] == ["must be at least 0"]
    assert settings_problems({"average_from": 0.99}) == []
