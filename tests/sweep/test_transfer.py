"""Weights of a sweep's trial moved to other classes: launched, resumed, verified and loaded."""

from __future__ import annotations

import re
import sqlite3
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import orchestrator
from models.network import part_names
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.cli import main
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import SweepRecord, read_sweep
from orchestrator.training.checkpoint import load

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PHOTOGRAPHS = SHARED / "data/cifar10-jpeg.tar.xz"


def swept(name: str) -> tuple[Path, SweepRecord]:
    folder = find_sweep(Path("runs"), name)
    return folder, read_sweep(folder)


def state(folder: Path, index: int) -> Mapping[str, torch.Tensor]:
    return load(trial_folder(folder, index) / BEST, uid=None).tensors


def check_transferred(source: Path, name: str) -> dict[str, float]:
    """Each trial of `search=transfer` has kept what it froze; the test accuracy of each."""
    folder, record = swept(name)
    weights = state(source, 0)
    found = {}
    for trial in record.trials.values():
        choice, stage = trial.params["transfer"], trial.params.get("transfer.stage", "")
        found[f"{choice}{stage}"] = trial.metrics["test/accuracy"]
        model = orchestrator.load_model(f"{folder.name}/{trial.index}").network
        kept = state(folder, trial.index)
        same = {key for key in kept if key in weights and torch.equal(kept[key], weights[key])}
        parts = {key.split(".")[0] for key in same}
        assert torch.equal(model.state_dict()["stem.affine.weight"], weights["stem.affine.weight"])
        if choice == "head":
            assert {key for key in kept if not key.startswith("classifier")} == same
        if choice == "stage_probe":
            assert part_names(model)[-3:] == (f"stage{stage}", "pooled", "classifier")
            assert {key for key in kept if not key.startswith("classifier")} == same
        if choice in ("few_layers", "many_layers"):
            assert {"stem", "stage1"} <= parts
            assert not {key for key in same if key.startswith("stage3.0.branch.1") and key.endswith("weight")}
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_weights_of_a_trial_are_transferred_resumed_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["model=resnet_cifar", "model.depth=8", "model.width=4", "epochs=2"]
    assert main(["launch", "name=source", *small, "search=none", "optimizer.lr=0.05"]) == 0
    source, _ = swept("source")
    assert main(["launch", "name=moved", *small, "search=transfer", "pretrained=source/0"]) == 0
    assert re.search(r"verified: (\d+)/\1\n", capsys.readouterr().out)
    assert len(check_transferred(source, "moved")) == 5
    folder, record = swept("moved")
    assert record.opened.config["pretrained"] == f"{source.name}/0"
    assert main(["verify", folder.name, "--deep"]) == 0
    assert main(["train", f"from={folder.name}/1"]) == 0
    assert "equal to the recorded trial: yes" in capsys.readouterr().out
    with sqlite3.connect("runs/mlflow.db") as db:
        params = {value for (value,) in db.execute("SELECT value FROM params WHERE key = 'pretrained'")}
    db.close()
    assert params == {f"{source.name}/0"}
    assert main(["resume", folder.name, "transfer=few_layers,all", "--more", "1"]) == 0
    Path("runs").rename("elsewhere")
    assert main(["train", f"from={folder.name}/0", "--runs-dir", "elsewhere"]) == 0
    assert "equal to the recorded trial: yes" in capsys.readouterr().out
    Path("elsewhere").rename("runs")
    best = trial_folder(source, 0) / BEST
    best.write_bytes((trial_folder(folder, 0) / BEST).read_bytes())
    assert main(["resume", folder.name, "--more", "1"]) == 3
    assert "is damaged: it belongs to trial" in capsys.readouterr().err
    best.unlink()
    assert main(["resume", folder.name, "--more", "1"]) == 3
    assert f"the weights of {source.name}/0 are not there" in capsys.readouterr().err
    plan = SweepPlan.from_json(swept("moved")[1].plan)
    assert plan.base["pretrained_files"][f"{source.name}/0"]["path"] == str(best.resolve())


SOURCE = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse")
TARGET = ("ship", "truck")


def photographs(root: Path) -> None:
    """Folders of eight classes, 200 images a class, and of the other two, 50 a class."""
    limits = {"train": 200, "test": 60}
    counts: dict[tuple[str, str, str], int] = {}
    with tarfile.open(PHOTOGRAPHS) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) < 3 or parts[-3] not in limits:
                continue
            split, name = parts[-3], parts[-2]
            task = "source" if name in SOURCE else "target"
            most = 50 if (task, split) == ("target", "train") else limits[split]
            counts[task, split, name] = counts.get((task, split, name), 0) + 1
            if counts[task, split, name] <= most:
                path = root / task / split / name / parts[-1]
                path.parent.mkdir(parents=True, exist_ok=True)
                file = archive.extractfile(member)
                assert file is not None
                path.write_bytes(file.read())


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_file(), reason="the photographs of ../shared/data are not here")
@pytest.mark.usefixtures("ray_cluster")
def test_photographs_of_eight_classes_help_with_fifty_of_two_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path)
    small = ["data=image_folder", "model=resnet_cifar", "model.depth=8", "optimizer.momentum=0.9"]
    learn = ["epochs=12", "optimizer.lr=0.05", "batch_size=64", "schedule=cosine", "search=none"]
    assert main(["launch", "name=eight", *small, *learn, "data.root=source"]) == 0
    source, record = swept("eight")
    assert record.trials[0].value is not None
    assert record.trials[0].value > 0.25, "an eighth would be chance"
    tune = ["epochs=20", "optimizer.lr=0.02", "batch_size=20", "data.root=target"]
    assert main(["launch", "name=two", *small, *tune, "search=transfer", "pretrained=eight/0"]) == 0
    assert main(["launch", "name=scratch", *small, *tune, "search=none"]) == 0
    tested = check_transferred(source, "two")
    tested["scratch"] = swept("scratch")[1].trials[0].metrics["test/accuracy"]
    with capsys.disabled():
        print("\ntest accuracy, two classes, 50 images each: ", tested)
    assert tested["head"] > 0.6, "half would be chance"
