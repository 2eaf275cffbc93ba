"""A small real sweep, and what can be made of its trials later: models, and the same training again."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import orchestrator
from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.layout import BEST, JOURNAL, trial_folder
from orchestrator.cli import main
from orchestrator.config.plan import trial_config
from orchestrator.config.planning import plan as make_plan
from orchestrator.housekeeping.reading import TrialStory, find_trial
from orchestrator.housekeeping.showing import commands
from orchestrator.journal.file import checksum
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep
from orchestrator.sweep.retention import Retention
from orchestrator.training import evaluate, metrics
from orchestrator.training.build import build_learner
from orchestrator.training.comparison import compared

TRIALS = 4


@pytest.fixture(scope="module")
def folder(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sweep over architectures of both kinds, with a value that is typed for one optimizer alone."""
    runs = tmp_path_factory.mktemp("sweeps")
    data = ["data=synthetic", "data.num_examples=200", "batch_size=16", "epochs=3", "seed=1"]
    space = ["model=mlp,convnet", "optimizer=sgd,adam", "optimizer.momentum=0.5", "norm=batch", "sampler=grid"]
    keys = ["optimizer.lr=0.02", "name=small", "max_concurrent=1", f"runs_dir={runs}"]
    assert main(["launch", *data, *space, *keys]) == 0
    yield find_sweep(runs, "small")
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)


def story_of(folder: Path, index: int) -> TrialStory:
    return find_trial(folder.parent, f"small/{index}")


@pytest.mark.parametrize("index", range(TRIALS))
def test_a_loaded_model_scores_on_validation_what_was_logged(folder: Path, index: int) -> None:
    story = story_of(folder, index)
    generator = torch.get_rng_state()
    model = orchestrator.load_model(f"small/{index}", runs_dir=folder.parent).network
    assert torch.equal(torch.get_rng_state(), generator), "the caller's generator is as it was"
    assert not model.training
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    learner = build_learner(story.trial.config)
    split = learner.data.splits["val"]
    logits = evaluate.logits(model, split, channels_last=learner.channels_last)
    accuracy = metrics.accuracy(logits, split.labels)
    logged = story.trial.epochs[story.trial.best_epoch - 1]["metrics"]  # type: ignore[operator]
    assert accuracy == logged["val/accuracy"] == story.trial.value


def test_the_plan_says_enough_of_the_data_to_build_a_model(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    expected = orchestrator.load_model("small/0", runs_dir=folder.parent).network.state_dict()
    change_events(copy, "suggested", lambda data: data["config"]["data"].update(_target_="models.gone.gone"))
    found = orchestrator.load_model("small/0", runs_dir=copy.parent).network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("index", [0, 3])
def test_a_trial_trained_again_is_the_same_to_the_bit(
    folder: Path, index: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(folder.parent)
    assert main(["train", f"from=small/{index}", "--runs-dir", runs, "--folder", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr().out
    assert "equal to the recorded trial: yes" in printed
    story = story_of(folder, index)
    recorded, again = trial_folder(folder, index), tmp_path / "again"
    there, here = (load_file(path / BEST) for path in (recorded, again))
    assert stamp(recorded / BEST) == stamp(again / BEST)
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], here[name]) for name in there)
    predicted = "artifacts/predictions.safetensors"
    logits = [load_file(path / predicted)["test_logits"] for path in (recorded, again)]
    assert torch.equal(*logits)
    assert f"test/accuracy {story.trial.metrics['test/accuracy']:.4f}" in printed


def test_a_repetition_that_differs_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = copied(folder, tmp_path)
    change_events(copy, "reported", lambda data: data["epochs"][-1]["metrics"].update({"val/loss": 7.0}))
    assert main(["train", "from=small/0", "--runs-dir", str(copy.parent)]) == 0
    assert "equal to the recorded trial: no (epoch 3: val/loss)" in capsys.readouterr().out


def test_a_stopped_trial_is_trained_as_far_as_it_came(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(folder, tmp_path)

    def stop(data: dict[str, Any]) -> None:
        data.update(state="stopped", epoch=3, metrics={})

    change_events(copy, "terminal", stop)
    change_events(copy, "suggested", lambda data: data["config"].update(epochs=50))
    assert main(["train", "from=small/0", "--runs-dir", str(copy.parent)]) == 0
    printed = capsys.readouterr().out
    assert "epoch 3/3" in printed
    assert "equal to the recorded trial: yes" in printed
    assert main(["verify", "small-0", "--runs-dir", str(copy.parent)]) == 0, "what is kept of it is whole"


def test_of_a_cancelled_trial_the_recorded_epochs_are_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(folder, tmp_path)

    def leave_out_the_last(data: dict[str, Any]) -> None:
        data["epochs"] = [epoch for epoch in data["epochs"] if epoch["epoch"] < 3]

    change_events(copy, "reported", leave_out_the_last)
    change_events(copy, "terminal", lambda data: data.update(state="cancelled", epoch=2, metrics={}))
    assert main(["train", "from=small/0", "--runs-dir", str(copy.parent)]) == 0
    printed = capsys.readouterr().out
    assert "epoch 2/2" in printed
    assert "equal to the recorded trial: yes" in printed


def test_a_trial_that_diverged_does_so_again(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = copied(folder, tmp_path)

    def explode(data: dict[str, Any]) -> None:
        data["config"]["optimizer"]["lr"] = 3e38

    change_events(copy, "suggested", explode)
    change_events(copy, "reported", lambda data: data.update(epochs=[]))
    change_events(copy, "terminal", lambda data: data.update(state="diverged", reason="otherwise", metrics={}))
    again = ["train", "from=small/0", "--runs-dir", str(copy.parent)]
    assert main(again) == 4
    printed = capsys.readouterr().out
    assert "equal to the recorded trial: no (it ended differently (otherwise))" in printed
    (reason,) = re.findall("no result: (.*)", printed)
    change_events(copy, "terminal", lambda data: data.update(reason=reason))
    assert main(again) == 4
    assert "equal to the recorded trial: yes" in capsys.readouterr().out


def test_other_values_make_another_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ["--runs-dir", str(folder.parent)]
    assert main(["train", "from=small/0", "epochs=1", "optimizer.lr=0.5", *runs]) == 0
    printed = capsys.readouterr().out
    assert "with epochs=1 optimizer.lr=0.5: no longer the same trial, so nothing is compared" in printed
    assert "epoch 1/1" in printed
    assert "equal to" not in printed


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("optimizer=adam", "another choice would come from today's files"),
        ("optimizer.lrr=0.1", "unknown key; did you mean optimizer.lr"),
        ("optimizer.lr=fast", "optimizer.lr=fast: must be a number"),
        ("optimizer.lr=-1", "lr must be more than 0, got -1"),
        ("optimizer.lr=0.1,0.2", "train takes one value"),
        ("optimizer.lr='", "cannot be read"),
        ("epochs=0", "must be at least 1"),
        ("epochs=1.5", "must be an integer"),
        ("trials=3", "trials=3: unknown key; known: average_from, batch_size, "),
        ("batch_size=100000", "batch_size"),
    ],
)
def test_a_wrong_value_is_refused_before_training(
    folder: Path, override: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "from=small/0", override, "--runs-dir", str(folder.parent)]) == 2
    assert re.search(why, capsys.readouterr().err)


def test_the_sweeps_own_folder_is_not_trained_into(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = str(trial_folder(folder, 0))
    assert main(["train", "from=small/0", "--runs-dir", str(folder.parent), "--folder", own]) == 2
    assert "belongs to the sweep" in capsys.readouterr().err


@pytest.mark.parametrize("index", range(TRIALS))
def test_the_shown_command_composes_the_configuration_of_the_trial(folder: Path, index: int) -> None:
    story = story_of(folder, index)
    again, explicit = commands(story)
    assert again.startswith(f"orchestrator train from={story.name}")
    words = shlex.split(explicit)
    assert words[:2] == ["orchestrator", "train"]
    assert ("optimizer.momentum=0.5" in words) == (story.trial.params["optimizer"] == "sgd")
    plan = make_plan([*words[2:], "search=none", f"runs_dir={folder.parent}"])
    assert compared(trial_config(plan, {})) == compared(story.trial.config)


def test_a_shown_trial_has_its_run_and_its_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "small/2", "--runs-dir", str(folder.parent)]) == 0
    printed = capsys.readouterr().out
    story = story_of(folder, 2)
    assert f"trial       {folder.name}/2" in printed
    assert "state       completed" in printed
    assert f"val/accuracy {story.trial.value} at epoch {story.trial.best_epoch}" in printed
    assert str(trial_folder(folder, 2) / BEST) in printed
    assert "predictions.safetensors" in printed
    assert re.search(r"MLflow      run [0-9a-f]{32} in sqlite:///", printed)
    assert "1: begun 20" in printed


def test_weights_that_are_not_there_say_how_to_get_them(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    best = trial_folder(copy, 0) / BEST
    contents = bytearray(best.read_bytes())
    contents[-1] ^= 1
    best.write_bytes(contents)
    with pytest.raises(NotReadyError, match=r"is damaged: .*trains the trial again:  orchestrator train from=small-"):
        orchestrator.load_model("small/0", runs_dir=copy.parent)
    best.unlink()
    with pytest.raises(NotReadyError, match=r"not among the best 20 \(keep_weights\).*orchestrator train from=small-"):
        orchestrator.load_model("small/0", runs_dir=copy.parent)
    change_events(copy, "terminal", lambda data: data.update(state="diverged", value=None))
    with pytest.raises(NotReadyError, match=r"are not there \(none: the trial is diverged\)$"):
        orchestrator.load_model("small/0", runs_dir=copy.parent)
    with pytest.raises(ConfigError, match=r"there is no such trial: small-.* has the trials 0 to 3"):
        orchestrator.load_model("small/4", runs_dir=copy.parent)


def test_the_sweep_kept_the_best_weights_and_shipped_them(folder: Path) -> None:
    closed = read_sweep(folder).closed
    assert closed is not None
    kept = {entry["trial"]: entry["sha256"] for entry in closed.weights}
    assert sorted(kept) == list(range(TRIALS))
    assert not list(folder.rglob("checkpoint-*"))
    shipped = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.parent.rglob(f"artifacts/*/*/artifacts/{BEST}")
    ]
    assert sorted(shipped) == sorted(kept.values())


def test_of_a_real_sweep_retention_keeps_the_best_weights_alone(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    record = read_sweep(copy)
    assert record.scores is not None
    assert record.scores.best is not None
    (best,) = record.scores.best.trials
    retention = Retention(copy, record, 1, lambda: record.last_seq)
    retention.catch_up()
    retention.finish()
    assert [path.parent.name for path in copy.glob(f"trials/*/{BEST}")] == [f"{best:05d}"]
    assert not list(copy.rglob("checkpoint-*"))
    assert len(list(copy.rglob("predictions.safetensors"))) == TRIALS
    assert [entry["trial"] for entry in retention.kept()] == [best]
    assert not orchestrator.load_model(f"small/{best}", runs_dir=copy.parent).network.training
    with pytest.raises(NotReadyError, match="not kept: its configuration is not among the best"):
        orchestrator.load_model(f"small/{(best + 1) % TRIALS}", runs_dir=copy.parent)


def test_weights_of_other_code_are_told(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    change_events(copy, "suggested", lambda data: data["config"]["model"].update(width=7))
    with pytest.raises(NotReadyError, match="does not fit the model, whose code must have changed"):
        orchestrator.load_model("small/0", runs_dir=copy.parent)


def test_the_package_names_what_it_has_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lod_model'"):
        _ = orchestrator.lod_model


def stamp(path: Path) -> str:
    """The SHA-256 of weights and all that is said of them, from a file's header."""
    contents = path.read_bytes()
    header = json.loads(contents[8 : 8 + int.from_bytes(contents[:8], "little")])
    return str(header["__metadata__"]["sha256"])


def copied(folder: Path, to: Path) -> Path:
    """The sweep in another folder, to be changed there."""
    return Path(shutil.copytree(folder, to / "runs" / folder.name))


def change_events(folder: Path, kind: str, change: Any) -> None:
    """Changes trial 0's events of a kind, as if they had been written so."""
    db = sqlite3.connect(folder / JOURNAL)
    query = "SELECT seq, time_ms, kind, trial, attempt, data FROM events WHERE kind = ? AND trial = 0"
    for *row, text in db.execute(query, (kind,)).fetchall():
        data = json.loads(text)
        change(data)
        text = json.dumps(data)
        db.execute("UPDATE events SET data = ?, crc = ? WHERE seq = ?", (text, checksum(*row, text), row[0]))
    db.commit()
    db.close()
