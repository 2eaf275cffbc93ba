"""Whole sweeps through the real thing: Ray, the journal, MLflow on SQLite."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base import yaml_files
from orchestrator.base.layout import JOURNAL
from orchestrator.base.settings import CONF
from orchestrator.cli import main
from orchestrator.config.catalogue import choices
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.events import Published, Reported, Retrying, Started, SweepClosed, SweepOpened
from orchestrator.journal.file import Entry, Reader

SMALL = ["data=synthetic", "model=mlp", "model.width=12", "batch_size=16", "seed=1"]

pytestmark = pytest.mark.usefixtures("ray_cluster", "in_tmp")


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def events_of(runs: Path = Path("runs")) -> list[Entry]:
    (folder,) = (path.parent for path in runs.glob(f"*/{JOURNAL}"))
    reader = Reader(folder / JOURNAL)
    try:
        return list(reader.events())
    finally:
        reader.close()


def by_trial(events: list[Entry], kind: str) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        if event.kind == kind and event.trial is not None:
            found.setdefault(event.trial, []).append(event.event.to_data())
    return found


def query(sql: str, *values: object) -> list[tuple[Any, ...]]:
    db = sqlite3.connect("runs/mlflow.db")
    try:
        return db.execute(sql, values).fetchall()
    finally:
        db.close()


def test_a_sweep_from_the_command_line_to_mlflow(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", *SMALL, "name=first", "trials=5", "epochs=3", "optimizer.lr=tag(log,interval(1e-2,1))"]) == 0
    printed = capfd.readouterr()
    assert "5 completed" in printed.out
    assert "best trials:" in printed.out
    assert "orchestrator dashboard" in printed.out
    assert printed.err == ""

    events = events_of()
    opened, closed, page = events[0].event, events[-2].event, events[-1].event
    assert isinstance(opened, SweepOpened)
    assert SweepPlan.from_json(opened.plan).root.trials == 5
    assert opened.environment["command"].startswith("orchestrator launch data=synthetic")
    assert opened.folder == "."
    assert isinstance(closed, SweepClosed)
    assert isinstance(page, Published)
    assert page.key == "report.html"
    assert closed.totals == {"completed": 5}
    epochs = {i: [e["epoch"] for d in data for e in d["epochs"]] for i, data in by_trial(events, "reported").items()}
    assert epochs == {index: [1, 2, 3] for index in range(5)}

    runs = query("SELECT r.run_uuid, r.status, t.value FROM runs r JOIN tags t USING(run_uuid) WHERE t.key='trial_uid'")
    assert Counter(status for _, status, _ in runs) == {"FINISHED": 5}
    terminal = by_trial(events, "terminal")
    for run, _, uid in runs:
        (ended,) = terminal[int(uid.rsplit("/", 1)[1])]
        logged = query("SELECT step, value FROM metrics WHERE run_uuid=? AND key='val/accuracy' ORDER BY step", run)
        assert [step for step, _ in logged] == [1, 2, 3]
        assert max(value for _, value in logged) == ended["value"]
        (test,) = query("SELECT value FROM metrics WHERE run_uuid=? AND key='test/accuracy'", run)
        assert test[0] == ended["metrics"]["test/accuracy"]
    (parent,) = query("SELECT r.status FROM runs r JOIN tags t USING(run_uuid) WHERE t.key='kind' AND t.value='sweep'")
    assert parent == ("FINISHED",)
    assert len(list(Path("runs").glob("artifacts/**/predictions.safetensors"))) == 5
    assert len(list(Path("runs").glob("artifacts/**/config.yaml"))) == 5 + 1, "one a trial and the parent's"


OWN_MODEL = '''
"""A model of a user's own that can fail in the ways that models fail."""

import os
from pathlib import Path

import torch


class Own(torch.nn.Module):
    def __init__(self, size, num_classes, behaviour, marker):
        super().__init__()
        self.behaviour, self.marker = behaviour, Path(marker)
        self.layer = torch.nn.Linear(size, num_classes)

    def forward(self, images):
        if self.training and not images.is_meta and os.environ.get("ORCHESTRATOR_DRIVER") is None:
            if self.behaviour == "raises":
                raise RuntimeError("a bug of the user's")
            if self.behaviour == "dies" and not self.marker.exists():
                self.marker.touch()
                os._exit(9)
        return self.layer(images.flatten(1))


def own(*, num_classes: int, in_channels: int, image_size: tuple[int, int], norm=None, activation=None,
        behaviour: str = "good", marker: str = "") -> torch.nn.Module:
    return Own(in_channels * image_size[0] * image_size[1], num_classes, behaviour, marker)
'''


OWN_DATA_AND_OPTIMIZER = """
import numpy as np
import torch

from orchestrator.training.data import Dataset, make_dataset


def stripes(*, examples: int = 200) -> Dataset:
    labels = np.arange(examples) % 2
    images = np.random.RandomState(0).randint(0, 200, (examples, 1, 8, 8)).astype(np.uint8)
    images[labels == 1, :, ::2] += 55
    half = examples // 2
    return make_dataset("stripes", train=(images[:half], labels[:half]), test=(images[half:], labels[half:]))


class SignDescent(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure):
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad.sign()
        return loss
"""


def test_a_data_set_and_an_optimizer_from_outside(tmp_path: Path) -> None:
    for group, target in (("data", "stripes"), ("optimizer", "SignDescent")):
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / "own.yaml").write_text(f"_target_: own_parts.{target}\n")
    (tmp_path / "mine" / "own_parts.py").write_text(OWN_DATA_AND_OPTIMIZER)
    own = ["--config-dir", "mine", "data=own", "optimizer=own", "allowed_targets=[own_parts]"]
    keys = [
        "model.width=8",
        "epochs=8",
        "batch_size=16",
        "optimizer.lr=0.002,0.01",
        "max_concurrent=1",
        "tracking=none",
    ]
    assert main(["launch", *own, *keys]) == 0
    ended = by_trial(events_of(), "terminal")
    assert [ended[index][0]["state"] for index in (0, 1)] == ["completed"] * 2
    assert max(ended[index][0]["metrics"]["test/accuracy"] for index in (0, 1)) > 0.75


def bring_your_own(folder: Path) -> list[str]:
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "own_model.py").write_text(OWN_MODEL)
    (folder / "mine" / "model" / "own.yaml").write_text("_target_: own_model.own\nbehaviour: good\nmarker: ''\n")
    return ["--config-dir", "mine", "model=own", "allowed_targets=[own_model]"]


def test_a_model_from_outside_and_the_ways_in_which_trials_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DRIVER", "1")  # the model misbehaves in workers only
    marker = tmp_path / "marker"
    own = bring_your_own(tmp_path)
    space = ["model.behaviour=good,dies,raises", "optimizer.lr=0.1,3e38", f"model.marker={marker}", "sampler=grid"]
    assert main(["launch", *own, "data=synthetic", "batch_size=16", "epochs=2", *space]) == 0
    assert "a bug of the user's" in capfd.readouterr().out

    events = events_of()
    params = {index: data[0]["params"] for index, data in by_trial(events, "suggested").items()}
    states = {
        (params[index]["model.behaviour"], params[index]["optimizer.lr"]): data[0]["state"]
        for index, data in by_trial(events, "terminal").items()
    }
    assert states == {
        ("good", 0.1): "completed",
        ("good", 3e38): "diverged",
        ("dies", 0.1): "completed",
        ("dies", 3e38): "diverged",
        ("raises", 0.1): "failed",
        ("raises", 3e38): "failed",
    }
    reasons = Counter(entry.event.reason for entry in events if isinstance(entry.event, Retrying))
    assert reasons == {"the worker process died": 1, "RuntimeError: a bug of the user's": 2}
    (best,) = [entry.event.best for entry in events if isinstance(entry.event, SweepClosed)]
    assert best["params"]["optimizer.lr"] == 0.1
    tags = query(
        "SELECT r.status, t.value FROM runs r JOIN tags t USING(run_uuid) WHERE t.key='reason' ORDER BY t.value"
    )
    assert Counter(status for status, reason in tags if reason in ("diverged", "failed")) == {"FAILED": 4}
    assert len(query("SELECT value FROM tags WHERE key='trial_uid'")) == 6


def test_asha_stops_at_its_rungs() -> None:
    scheduler = ["scheduler=asha", "scheduler.grace_epochs=1", "scheduler.reduction_factor=2"]
    keys = ["trials=8", "epochs=4", "max_concurrent=1", "optimizer.lr=tag(log,interval(1e-5,1))"]
    assert main(["launch", *SMALL, *scheduler, *keys]) == 0
    events = events_of()
    ended = {index: data[0] for index, data in by_trial(events, "terminal").items()}
    epochs = {state: {e["epoch"] for e in ended.values() if e["state"] == state} for state in ("completed", "stopped")}
    assert epochs["completed"] == {4}
    assert epochs["stopped"]
    assert epochs["stopped"] <= {1, 2}
    for index, data in ended.items():
        first = max(d["epochs"][-1]["epoch"] for d in by_trial(events, "reported")[index][:1])
        assert first == 1, "the first report ends at the first rung"
        assert data["value"] is not None


@pytest.mark.slow
def test_tpe_one_at_a_time_is_the_same_twice() -> None:
    values = []
    for runs in ("a", "b"):
        keys = [
            f"runs_dir={runs}",
            "trials=4",
            "epochs=2",
            "max_concurrent=1",
            "sampler=tpe",
            "sampler.startup_trials=2",
        ]
        assert main(["launch", *SMALL, *keys, "tracking=none", "optimizer.lr=tag(log,interval(1e-3,1))"]) == 0
        events = events_of(Path(runs))
        suggested, ended = by_trial(events, "suggested"), by_trial(events, "terminal")
        values.append([(suggested[i][0]["params"], ended[i][0]["value"], ended[i][0]["metrics"]) for i in range(4)])
    assert values[0] == values[1]


@pytest.mark.parametrize(("sampler", "told"), [("random", True), ("tpe", False)])
def test_workers_know_the_next_short_trial_unless_the_sampler_learns(sampler: str, told: bool) -> None:
    """Reads from the journal which trials began before the driver wrote so, in the right order all the same."""
    keys = ["trials=12", "epochs=1", "max_concurrent=1", "tracking=none", f"sampler={sampler}"]
    assert main(["launch", *SMALL, *keys, "optimizer.lr=tag(log,interval(1e-3,1))"]) == 0
    events = events_of()
    began = [entry.event.began_ms for entry in events if isinstance(entry.event, Started)]
    assert any(began) is told
    epochs = [entry.event.epochs[0]["time_ms"] for entry in events if isinstance(entry.event, Reported)]
    assert len(epochs) == 12
    assert all(
        before <= start <= end for before, start, end in zip(epochs, began[1:], epochs[1:], strict=False) if start
    )


def test_no_more_trials_run_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        "trials=4",
        "epochs=2",
        "max_concurrent=1",
        "tracking=none",
        "optimizer.lr=0.01,0.02,0.05,0.1",
        "sampler=grid",
    ]
    assert main(["launch", *SMALL, *keys]) == 0
    running: set[int] = set()
    for event in events_of():
        if event.kind == "started" and event.trial is not None:
            running.add(event.trial)
        if event.kind == "terminal" and event.trial is not None:
            running.discard(event.trial)
        assert len(running) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("search", [name for name, _ in choices("search") if name not in ("none", "lottery_ticket")])
def test_every_ready_space_runs(search: str) -> None:
    model = ["model=resnet_cifar", "model.width=4"] if search == "depth" else ["model=convnet"]
    keys = ["trials=3", "epochs=1", "batch_size=128", "max_concurrent=1", "tracking=none", "seed=3"]
    assert main(["launch", f"search={search}", *model, *keys]) == 0
    states = {data[0]["state"] for data in by_trial(events_of(), "terminal").values()}
    assert states <= {"completed", "diverged"}


@pytest.mark.slow
def test_experiments_of_the_catalogue_plan(capsys: pytest.CaptureFixture[str]) -> None:
    for name, _ in choices("experiment"):
        written = yaml_files.read(CONF / "experiment" / f"{name}.yaml")
        on_photographs = {"override /data": "image_folder"} in written["defaults"]
        data = ["data=synthetic", "data.image_size=32", "data.channels=3"] if on_photographs else []
        planned = main(["launch", "--plan", f"experiment={name}", *data])
        told = capsys.readouterr().err
        if "pretrained" in written:
            assert planned == 2
            assert f"run it first:  orchestrator launch experiment={written['pretrained'].partition('/')[0]}" in told
        else:
            assert planned == 0, told
