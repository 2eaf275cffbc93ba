"""claims: one experiment from its file to the terminal, MLflow and JSON; the gallery, of which nothing is run twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from orchestrator.analysis.claims import HOLDS, Verdict
from orchestrator.base.errors import ConfigError
from orchestrator.base.layout import CONF, JOURNAL, PREDICTIONS, trial_folder
from orchestrator.base.yaml_files import read
from orchestrator.cli import gallery, main
from orchestrator.cli.claiming import claims_command
from orchestrator.cli.gallery import Entry, as_markdown, entries
from orchestrator.config.claims import decode_claims
from orchestrator.journal.finding import find_sweep, name_of
from orchestrator.journal.record import read_sweep
from tests.simulated import simulated_sweep

EXPERIMENT = """\
# @package _global_
# a small one
defaults:
  - override /data: synthetic
  - override /norm: none
  - override /sampler: grid
  - override /search: none
epochs: 4
repeat: 2
diagnostics: true
model: {width: 12}
space:
  optimizer.lr: choice(1e-6, 0.1)
claims:
  - id: M-learns
    lecture: 004 L1
    says: a larger learning rate learns sooner
    left: {metric: train/loss, of: {optimizer.lr: 0.1}}
    at_most: {metric: train/loss, of: {optimizer.lr: 1e-6}}
    every_seed: true
  - id: M-impossible
    lecture: 004 L2
    says: it is always right
    left: {metric: val/accuracy, of: {optimizer.lr: 1e-6}}
    at_least: 1.1
    every_seed: true
  - id: M-pooled
    lecture: 001 L280
    says: two networks together are at most as wrong as by themselves
    left: {metric: val/nll, over: {optimizer.lr: ensemble, seed: {ensemble: 2}}}
    at_most: {metric: val/nll, at: kept, over: {optimizer.lr: mean, seed: {mean: 2}}}
    every_seed: true
  - id: M-counts
    lecture: 004 L3
    says: two trials of four epochs, of a network of 64 * 12 + 12, 12 * 12 + 12 and 12 * 4 + 4 parameters
    left:
      absolute:
        difference:
          - product: [{metric: epochs, over: {optimizer.lr: sum}}, {metric: parameters, of: {optimizer.lr: 0.1}}]
          - 7904
    at_most: 0
    every_seed: true
  - id: M-moves
    lecture: 004 L4
    says: the classifier's weights move further with the larger learning rate
    left: {metric: layers/last/update_ratio, of: {optimizer.lr: 0.1}}
    at_least: {metric: layers/last/update_ratio, of: {optimizer.lr: 1e-6}}
    every_seed: true
  - id: M-chosen
    lecture: 004 L5
    says: what learns sooner is the best at the end
    left: {metric: train/loss, chosen_at: 1, over: {optimizer.lr: best}}
    at_most: {metric: train/loss, over: {optimizer.lr: best}}
    every_seed: true
"""


@pytest.mark.usefixtures("ray_cluster")
def test_an_experiment_shows_its_claims_at_the_end_in_mlflow_and_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    assert main(["launch", "--config-dir", "conf", "experiment=mine", "name=mine"]) == 0
    printed = capfd.readouterr().out
    assert "6 claims: 5 hold, 1 do not hold" in printed
    assert "M-impossible does not hold: it is always right" in printed

    folder = find_sweep(Path("runs"), "mine")
    with sqlite3.connect("runs/mlflow.db") as db:
        tags = dict(db.execute("SELECT key, value FROM tags WHERE key LIKE 'claim.%'"))
        (text,) = (
            row[0]
            for row in db.execute("SELECT value FROM tags WHERE key = 'mlflow.note.content'")
            if "M-learns" in row[0]
        )
    db.close()
    holding = [f"claim.{name}" for name in ("M-learns", "M-pooled", "M-counts", "M-moves", "M-chosen")]
    assert tags == {"claim.M-impossible": "does not hold"} | dict.fromkeys(holding, "holds")
    assert "| M-impossible | does not hold |" in text

    (tmp_path / "conf" / "experiment" / "mine.yaml").unlink()  # what was recorded counts
    assert main(["claims"]) == 0
    assert f"{folder.name}, 6 claims: 5 hold, 1 do not hold" in capfd.readouterr().out
    assert main(["claims", "mine", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert [(row["id"], row["verdict"], row["n"]) for row in rows] == [
        ("M-learns", "holds", 2),
        ("M-impossible", "does not hold", 2),
        ("M-pooled", "holds", 1),
        ("M-counts", "holds", 2),
        ("M-moves", "holds", 2),
        ("M-chosen", "holds", 2),
    ]
    _the_ensemble_is_of_what_is_stored(folder, rows[2])
    _the_gallery_takes_a_closed_sweep_as_it_is(tmp_path, monkeypatch, capfd)
    _predictions_that_are_not_there_leave_a_claim_undecided(folder, capfd)


def _the_ensemble_is_of_what_is_stored(folder: Path, row: Mapping[str, Any]) -> None:
    """All four trials, with numpy alone."""
    stored = [load_file(trial_folder(folder, index) / PREDICTIONS) for index in range(4)]
    odds = [np.exp(one["val_logits"].astype(np.float64)) for one in stored]
    shares = [one / one.sum(axis=1, keepdims=True) for one in odds]
    labels = stored[0]["val_labels"]
    rows = np.arange(len(labels))
    assert row["left"] == pytest.approx(-np.log(np.mean(shares, axis=0)[rows, labels]).mean())
    assert row["right"] == pytest.approx(np.mean([-np.log(one[rows, labels]).mean() for one in shares]), rel=1e-5)


def _predictions_that_are_not_there_leave_a_claim_undecided(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (trial_folder(folder, 3) / PREDICTIONS).unlink()
    assert main(["claims", "mine", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["verdict"] for row in rows] == ["holds", "does not hold", "undecided", "holds", "holds", "holds"]
    assert rows[2]["why"] == "trial 3 cannot be a member: its predictions cannot be read (No such file or directory)"


def _the_gallery_takes_a_closed_sweep_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sweep of before, under the name that the gallery looks for."""
    monkeypatch.setattr(Entry, "sweep", property(lambda entry: entry.name))
    monkeypatch.setattr(gallery, "entries", lambda _: [Entry("mine", "M: a small one", photographs=False)])
    monkeypatch.setattr(gallery.subprocess, "call", lambda _: pytest.fail("a closed sweep was run again"))
    page = tmp_path / "claims.md"
    assert main(["claims", "--all", "--write", str(page)]) == 0
    assert "written" in capfd.readouterr().out
    text = page.read_text()
    assert "**6 claims: 5 hold, 1 do not hold.**" in text
    assert "## M: a small one" in text
    row = next(line for line in text.splitlines() if line.startswith("| M-impossible "))
    assert row.endswith("| no | **does not hold** |")
    assert "E17 controller" in text


def test_the_gallery_goes_on_where_one_fails_and_names_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(gallery.subprocess, "call", lambda command: ran.append(command) or 5)
    named = [Entry("one", "E1: one", False), Entry("pictures", "E2: two", True), Entry("three", "E3: three", False)]
    monkeypatch.setattr(gallery, "entries", lambda given: [replace(one, overrides=tuple(given)) for one in named])
    assert main(["claims", "--all", "--runs-dir", str(tmp_path), "repeat=2"]) == 4
    assert all(command[-1] == "repeat=2" for command in ran)
    assert [command[5:7] for command in ran] == [
        ["experiment=one", "name=claims-one-repeat-2"],
        ["experiment=three", "name=claims-three-repeat-2"],
    ]
    printed = capsys.readouterr().out
    assert "- E1: one (`one`): ended with exit code 5" in printed
    assert "- E2: two (`pictures`): needs photographs: --data FOLDER" in printed
    ran.clear()
    monkeypatch.setattr(gallery.subprocess, "call", lambda command: ran.append(command) or 130)
    assert main(["claims", "--all", "--runs-dir", str(tmp_path)]) == 130
    assert len(ran) == 1
    assert "interrupted; the same command goes on" in capsys.readouterr().out
    ran.clear()
    assert main(["claims", "--all", "--runs-dir", str(tmp_path), "--data", str(tmp_path), "--no-run"]) == 0
    assert not ran
    assert "- E1: one (`one`): was not run" in capsys.readouterr().out


@pytest.mark.slow  # two sweeps; the commands alone are below
@pytest.mark.usefixtures("ray_cluster")
def test_the_gallery_runs_the_experiment_with_whose_weights_another_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Tiny: what an override takes from the search takes the claims about it."""
    (named,) = (entry for entry in entries() if entry.name == "e16_transfer")
    assert named.first is not None
    assert (named.source, named.first.name, named.first.first) == ("e16_source", "e16_source", None)
    one = "orchestrator launch experiment=e16_source && orchestrator launch experiment=e16_transfer"
    assert named.command == one
    tiny = ("epochs=1", "repeat=1", "batch_size=10", "data.examples_per_class=2", "tracking=none")
    monkeypatch.setattr(gallery, "entries", lambda _: [replace(named, overrides=tiny)])
    monkeypatch.setattr(Entry, "sweep", property(lambda entry: f"g-{entry.name}"))
    ran: list[list[str]] = []

    def call(command: list[str]) -> int:
        ran.append(command[command.index("orchestrator") + 1 :])
        return main(ran[-1])

    monkeypatch.setattr(gallery.subprocess, "call", call)
    assert main(["claims", "--all", "--runs-dir", str(tmp_path)]) == 0
    assert [words[1] for words in ran] == ["experiment=e16_source", "experiment=e16_transfer"]
    source, target = (read_sweep(find_sweep(tmp_path, f"g-{words[1][11:]}")) for words in ran)
    begun = {trial.config["pretrained"] for trial in target.trials.values()}
    assert begun == {f"{source.uid}/0"}
    assert len(target.trials) == 12
    assert "| E16-2-linear-near-all | 003 " in capfd.readouterr().out

    assert main(["claims", "--all", "--runs-dir", str(tmp_path)]) == 0
    assert len(ran) == 2


def test_the_gallery_runs_nothing_that_begins_with_weights_of_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = Entry("two", "E2: two", photographs=False, overrides=("seed=2",), source="one")
    first, own = gallery._commands(two, tmp_path, None)
    assert first[1:3] == ["experiment=one", "name=claims-one-seed-2"]
    assert own[-2:] == ["pretrained=claims-one-seed-2/0", "seed=2"]
    ran: list[str] = []
    monkeypatch.setattr(gallery.subprocess, "call", lambda command: ran.append(command[5]) or 4)
    monkeypatch.setattr(gallery, "entries", lambda _: [two])
    assert main(["claims", "--all", "--runs-dir", str(tmp_path)]) == 4
    assert ran == ["experiment=one"]
    assert "- E2: two (`two`): ended with exit code 4" in capsys.readouterr().out


def test_the_page_shows_each_command_with_the_overrides_that_it_was_run_with() -> None:
    (claim,) = decode_claims([{"id": "A", "lecture": "004 L1", "says": "so", "left": 1, "at_least": 0}])
    found = [Verdict(claim, HOLDS, 1.0, 0.0)]
    named = [Entry("one", "E1: one", photographs=False), Entry("two", "E2: two", photographs=True)]
    plain = as_markdown([(one, found, "") for one in named[:1]])
    assert "`orchestrator launch experiment=one`" in plain
    assert "`orchestrator claims --all --write FILE`" in plain
    assert "in place of" not in plain
    given = ("repeat=5", "name=a b")
    page = as_markdown([(replace(one, overrides=given), found, "") for one in named])
    assert "`orchestrator launch experiment=one repeat=5 'name=a b'`" in page
    assert "`orchestrator launch experiment=two data.root=FOLDER repeat=5 'name=a b'`" in page
    assert "`orchestrator claims --all --data FOLDER repeat=5 'name=a b' --write FILE`" in page
    assert "Every experiment was run with `repeat=5 'name=a b'` in place of what its file says." in page


def test_the_table_comes_after_all_that_the_sweeps_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each child writes to the terminal itself, as the sweeps do."""
    monkeypatch.setattr(gallery, "entries", lambda _: [Entry(name, f"E: {name}", False) for name in ("one", "two")])
    monkeypatch.setattr(gallery, "_command", lambda *_: ["list", "experiment"])
    assert main(["claims", "--all", "--runs-dir", str(tmp_path)]) == 0
    printed = capfd.readouterr().out
    assert printed.count("e01_weight_scale") == 2
    first, one, two = (printed.index(text) for text in ("[1/2] one", "e01_weight_scale", "[2/2] two"))
    last = printed.rindex("e01_weight_scale")
    assert first < one < two < last < printed.index("# The claims of the lectures")


def test_other_seeds_are_sweeps_of_their_own() -> None:
    plain, more = entries()[0], entries(["repeat=5", "seed=2"])[0]
    assert plain.sweep == f"claims-{plain.name}"
    assert more.sweep == f"claims-{plain.name}-repeat-5-seed-2"
    command = gallery._command(more, Path("nowhere"), None)
    assert command is not None
    assert command[-2:] == ["repeat=5", "seed=2"]


def test_a_sweep_that_was_interrupted_goes_on_and_a_closed_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = simulated_sweep(tmp_path / "sim-00000000", trials=3, epochs=2)
    monkeypatch.setattr(Entry, "sweep", name_of(folder))
    entry = Entry("sim", "S: simulated", photographs=False)
    assert gallery._command(entry, tmp_path, None) is None
    with sqlite3.connect(folder / JOURNAL) as journal:
        journal.execute("DELETE FROM events WHERE kind = 'sweep_closed'")
    journal.close()
    assert gallery._command(entry, tmp_path, None) == ["resume", folder.name, "--runs-dir", str(tmp_path)]


CLAIMED = read(CONF / "experiment" / "e05_xavier_kaiming.yaml")["claims"]
E05 = Entry("e05_xavier_kaiming", "E05: Xavier and Kaiming", photographs=False, claims=CLAIMED)


def _typed(
    folder: Path,
    *overrides: str,
    reason: str = "finished",
    config_dir: str | None = None,
    claims: Sequence[Mapping[str, Any]] = CLAIMED,
) -> Path:
    """A closed sweep of E05 that was launched with these overrides, as its journal says."""
    request = {"overrides": [f"experiment={E05.name}", *overrides], "config_dir": config_dir, "config_name": "launch"}
    return simulated_sweep(folder, trials=3, epochs=2, request=request, ends=reason, claims=claims)


def test_a_sweep_of_an_experiment_under_its_own_name_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["name=mine", "runs_dir=elsewhere", "max_concurrent=2", "+tracking=none", "data.root=mine"]
    _typed(tmp_path / "mine-00000000", *where)
    assert gallery._command(E05, tmp_path, None) is None
    assert [one.claim.id for one in gallery._verdicts(E05, tmp_path)] == [claim["id"] for claim in CLAIMED]
    assert "e05_xavier_kaiming: as in the sweep mine-00000000" in capsys.readouterr().out
    seeds = replace(E05, overrides=("repeat=5",))
    assert gallery._command(seeds, tmp_path, None) is not None
    assert gallery._command(replace(E05, name="e06_degradation"), tmp_path, None) is not None
    _typed(tmp_path / "five-00000000", "name=five", "repeat=5", claims=CLAIMED[1:])
    assert gallery._command(seeds, tmp_path, None) is None


@pytest.mark.parametrize(
    ("overrides", "how"),
    [
        (["seed=2"], {}),
        (["trials=3"], {}),
        (["keep_weights=0"], {}),
        ([], {"reason": "stopped"}),
        ([], {"config_dir": "/their/conf"}),
        ([], {"claims": CLAIMED[1:]}),
        ([], {"claims": [CLAIMED[0] | {"margin": 0.01}, *CLAIMED[1:]]}),
    ],
)
def test_a_sweep_that_computed_something_else_does_not_stand_for_an_experiment(
    tmp_path: Path, overrides: list[str], how: dict[str, Any]
) -> None:
    _typed(tmp_path / "mine-00000000", *overrides, **how)
    command = gallery._command(E05, tmp_path, None)
    assert command is not None
    assert command[0] == "launch"


def test_the_gallerys_own_sweep_with_the_claims_of_another_version_is_run_again(tmp_path: Path) -> None:
    _typed(tmp_path / f"{E05.sweep}-00000000", f"name={E05.sweep}", claims=CLAIMED[1:])
    command = gallery._command(E05, tmp_path, None)
    assert command is not None
    assert command[0] == "launch"
    _typed(tmp_path / f"{E05.sweep}-00000001", f"name={E05.sweep}")
    assert gallery._command(E05, tmp_path, None) is None


def test_every_experiment_of_the_lectures_is_run_or_left_out_with_a_reason() -> None:
    """The 29 sweeps of the lectures' experiments, by number."""
    here = {entry.name[:3].upper() for entry in entries()}
    there = {name[:3] for name in gallery.NOT_HERE}
    sweeps = {1, 2, 3, 5, 6, 7, 8, *range(10, 29), 35, 36, 37}
    assert here | there == {f"E{number:02}" for number in sweeps}
    assert not here & there
    page = as_markdown([(entry, [], "was not run") for entry in entries()])
    assert all(reason in page for reason in gallery.NOT_HERE.values())


def test_experiments_say_what_they_are() -> None:
    for entry in entries():
        assert entry.title.startswith(f"{entry.name[:3].upper()}: ")
        assert (CONF / "experiment" / f"{entry.name}.yaml").read_text().startswith("# @package _global_\n")


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["a", "b"], "b: is a second sweep"),
        (["--all", "NAME"], "NAME: is about one sweep, and --all about all"),
        (["--all", "--json"], "--json: is about one sweep"),
        (["--write", "x.md"], "--write: goes with --all"),
        (["--no-run"], "--no-run: goes with --all"),
        (["--all", "--data", "/no/such/folder"], "--data=/no/such/folder: is no folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(argv: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        claims_command(argv)


def test_a_sweep_without_claims_says_what_has_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated_sweep(tmp_path / "runs" / "sim-00000000", trials=3, epochs=2)
    assert main(["claims", "sim-00000000", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "sim-00000000 claims nothing; experiments that do:  orchestrator list experiment" in capsys.readouterr().out
    assert read_sweep(tmp_path / "runs" / "sim-00000000").trials


@pytest.mark.usefixtures("ray_cluster")
def test_coarse_to_fine_reads_the_test_of_what_is_trained_in_full_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    how = ["search=coarse_to_fine", "scheduler=asha", "scheduler.grace_epochs=1", "scheduler.reduction_factor=20"]
    small = [
        "data=synthetic",
        "model.width=12",
        "norm=none",
        "trials=8",
        "epochs=3",
        "tracking=none",
        "max_concurrent=1",
    ]
    assert main(["launch", *how, *small, "name=coarse"]) == 0
    trials = read_sweep(find_sweep(Path("runs"), "coarse")).trials.values()
    short = [trial for trial in trials if trial.state == "stopped"]
    full = [trial for trial in trials if trial.state == "completed"]
    assert len(short) + len(full) == 8
    assert len(short) > len(full) > 0
    assert {trial.epoch for trial in short} == {1}
    assert {trial.epoch for trial in full} == {3}
    assert not any("test/accuracy" in trial.metrics for trial in short)
    assert all("test/accuracy" in trial.metrics for trial in full)
