"""The weights at the ends of cycles: which epochs these are, that they are the live weights of then, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from orchestrator.base.layout import snapshot
from orchestrator.base.records import Trial
from orchestrator.base.settings import settings_problems
from orchestrator.cli import main
from orchestrator.training import checkpoint
from orchestrator.training.snapshots import snapshot_epochs
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Trial]
CYCLIC = "orchestrator.training.schedules.cyclic_cosine"
NORM = {"_target_": "models.layers.norm.batch_norm"}
LAST_LAYER = {"_target_": "orchestrator.training.transfer.top_layers", "layers": 1}
CONVNET = {"_target_": "models.convnet.convnet", "stages": 2, "width": 4}


def cyclic(cycles: int, warmup_epochs: float = 0.0) -> dict[str, Any]:
    return {"_target_": CYCLIC, "cycles": cycles, "warmup_epochs": warmup_epochs}


@pytest.mark.parametrize(
    ("epochs", "cycles", "warmup", "ends"),
    [(10, 5, 0, (2, 4, 6, 8, 10)), (3, 3, 0.0, (1, 2, 3)), (7, 3, 1.0, (3, 5, 7)), (6, 2, 0, (3, 6))],
)
def test_they_are_of_the_epochs_with_which_cycles_end(
    epochs: int, cycles: int, warmup: float, ends: tuple[int, ...]
) -> None:
    config = {"snapshots": cycles, "epochs": epochs, "schedule": cyclic(cycles, warmup)}
    assert snapshot_epochs(config) == ends


@pytest.mark.parametrize("changes", [{"norm": NORM}, {"model": CONVNET, "transfer": LAST_LAYER}, {"ema_decay": 0.9}])
def test_they_are_the_weights_of_then_where_the_learning_rate_is_lowest(
    trial: MakeTrial, changes: dict[str, Any]
) -> None:
    run = TrialRun(trial("cyclic", epochs=6, snapshots=3, schedule=cyclic(3), **changes))
    live = {}
    for result in run:
        live[result.epoch] = {name: tensor.clone() for name, tensor in run._learner.whole.state_dict().items()}
    run.finish()
    rates = [result.metrics["lr"] for result in run.history]
    assert all(rates[end - 1] < rates[end - 2] for end in (2, 4, 6))
    for number, end in enumerate((2, 4, 6), 1):
        path = Path(run.trial.folder) / snapshot(number)
        loaded = checkpoint.load(path, uid=run.trial.uid)
        assert loaded.state["epoch"] == end
        for name, tensor in live[end].items():
            assert torch.equal(loaded.tensors[name], tensor), name


def test_without_them_nothing_is_written(trial: MakeTrial) -> None:
    run = TrialRun(trial("plain", schedule=cyclic(2), epochs=2))
    for _ in run:
        saved = run.save()
    run.finish()
    assert not list(Path(run.trial.folder).glob("snapshot-*"))
    assert not [name for name in load_file(saved.path) if name.startswith("snapshot/")]


def test_frozen_weights_are_not_in_every_checkpoint(trial: MakeTrial) -> None:
    run = TrialRun(trial("frozen", epochs=2, snapshots=2, schedule=cyclic(2), model=CONVNET, transfer=LAST_LAYER))
    next(run)
    kept = {name.removeprefix("snapshot/1/") for name in load_file(run.save().path) if name.startswith("snapshot/")}
    assert kept == set(run._learner.whole.state_dict()) - run._learner.unchanging


@pytest.mark.parametrize(
    ("schedule", "epochs", "message"),
    [
        (
            {"_target_": "orchestrator.training.schedules.constant"},
            10,
            "write schedule=cyclic_cosine schedule.cycles=5",
        ),
        (cyclic(3), 10, "must be as many as the schedule has cycles, 3; write schedule.cycles=5"),
        (cyclic(5), 12, r"5 cycles in epochs=12 do not end with an epoch; write epochs=10"),
        (cyclic(5), 3, r"do not end with an epoch; write epochs=5"),
        (cyclic(5, 2.0), 10, r"epochs=10 after schedule.warmup_epochs=2 do not end with an epoch; write epochs=12"),
        (cyclic(5, 0.5), 10, r"write epochs=10 schedule.warmup_epochs=0"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused_with_what_to_write(
    schedule: dict[str, Any], epochs: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        snapshot_epochs({"snapshots": 5, "epochs": epochs, "schedule": schedule})


def test_a_launch_tells_it_before_anything_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    launch = ["launch", "--plan", "data=synthetic", "tracking=none", "optimizer.lr=0.1,0.2", "snapshots=5", "epochs=12"]
    assert main(launch) == 2
    assert "snapshots=5: are kept at the ends of the cycles of a schedule" in capsys.readouterr().err
    assert main([*launch, "schedule=cyclic_cosine"]) == 2
    assert "do not end with an epoch; write epochs=10" in capsys.readouterr().err


def test_one_is_no_ensemble() -> None:
    assert [problem.why for problem in settings_problems({"snapshots": 1})] == ["must be at least 2"]
