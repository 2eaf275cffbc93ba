"""A sweep of lottery tickets: it is the trained trial but for its masks, it is verified, and what does not go is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from orchestrator.base.layout import BEST, trial_folder
from orchestrator.base.records import State
from orchestrator.base.settings import PRETRAINED_FILES
from orchestrator.cli import main
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep

TINY = [
    "data=synthetic",
    "data.noise=2",
    "model.width=16",
    "model.hidden=1",
    "epochs=2",
    "batch_size=20",
    "tracking=none",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A folder with the sweep `source`, whose two trials differ in their learning rate; only the better one keeps its weights."""
    folder = tmp_path_factory.mktemp("tickets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rates = ["optimizer.lr=0.05,1e-6", "sampler=grid", "seed=7", "keep_weights=1"]
        assert main(["launch", "name=source", *rates, *TINY]) == 0
    return folder


@pytest.fixture
def source(runs: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The trials of the sweep by whether their weights are kept; the test works in its folder."""
    monkeypatch.chdir(runs)
    folder = find_sweep(Path("runs"), "source")
    record = read_sweep(folder)
    kept = {bool((trial_folder(folder, index) / BEST).is_file()): one for index, one in record.trials.items()}
    assert set(kept) == {True, False}
    return {"kept": kept[True], "gone": kept[False], "uid": folder.name}


@pytest.fixture(scope="module")
def tickets(runs: Path) -> Path:
    """The folder of a sweep of tickets of the trial of `source` that kept its weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(runs)
        source = find_sweep(Path("runs"), "source")
        (name,) = [f"source/{index}" for index in (0, 1) if (trial_folder(source, index) / BEST).is_file()]
        command = ["launch", "search=lottery_ticket", f"from={name}", "name=tickets", "tracking=none", "trials=20"]
        assert main([*command, "prune.sparsity=0.5,0.9"]) == 0
        return find_sweep(Path("runs"), "tickets").absolute()


def test_tickets_of_a_trained_trial(source: dict[str, Any], tickets: Path) -> None:
    folder, record = tickets, read_sweep(tickets)
    params = sorted(tuple(sorted(trial.params.items())) for trial in record.trials.values())
    assert len(params) == 5, "the whole network, and two masks of two densities"
    before = source["kept"].config
    for trial in record.trials.values():
        assert trial.state is State.COMPLETED
        mine = trial.config
        same = [key for key in before if key not in (PRETRAINED_FILES, "ticket", "prune", "choices", "data_entry")]
        assert {key: mine[key] for key in same} == {key: before[key] for key in same}
        assert mine["ticket"] == f"{source['uid']}/{source['kept'].index}"
        weights = {k: v for k, v in load_file(trial_folder(folder, trial.index) / BEST).items() if v.ndim > 1}
        gone = sum(int((one == 0).sum()) for one in weights.values())
        share = trial.params.get("prune.sparsity", 0) if trial.params["prune"] == "lottery_ticket" else 0
        assert gone == int(share * sum(one.numel() for one in weights.values()) + 0.5)
    (dense,) = [trial for trial in record.trials.values() if trial.params["prune"] == "none"]
    assert dense.value == source["kept"].value, "it is the trained trial again"
    pair = [
        trial_folder(folder, dense.index),
        trial_folder(find_sweep(Path("runs"), "source"), source["kept"].index),
    ]
    ours, theirs = (load_file(folder / BEST) for folder in pair)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert main(["verify", "tickets"]) == 0


@pytest.mark.slow
def test_they_are_verified_trained_again_and_resumed(
    source: dict[str, Any], tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_sweep(tickets)
    assert main(["verify", "--deep", "tickets"]) == 0, capsys.readouterr()
    capsys.readouterr()
    sparse = next(trial for trial in record.trials.values() if trial.params.get("prune.mask") == "magnitude")
    assert main(["train", f"from=tickets/{sparse.index}"]) == 0
    assert "equal to the recorded trial: yes" in capsys.readouterr().out
    assert main(["resume", "tickets", "--more", "1", "prune.sparsity=0.5,0.9,0.95"]) == 0, capsys.readouterr()
    assert len(read_sweep(tickets).trials) == 6


def test_the_command_line_says_what_is_otherwise(source: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    name = f"source/{source['kept'].index}"
    assert main(["launch", "--cfg", "job", "search=lottery_ticket", f"from={name}", "optimizer.lr=0.5"]) == 2
    assert "can only be looked up where the sweep is launched" in capsys.readouterr().err
    plan = ["launch", "--plan", "search=lottery_ticket", f"from={name}", "tracking=none"]
    assert main([*plan, "optimizer.lr=0.5"]) == 0, capsys.readouterr()
    capsys.readouterr()
    assert main([*plan, "model.width=7"]) == 2
    assert "the trained network is another" in capsys.readouterr().err


@pytest.mark.parametrize("search", ["search=none", "search=quickstart", "optimizer.lr=0.1,0.2"])
def test_from_goes_with_this_search_alone(
    source: dict[str, Any], capsys: pytest.CaptureFixture[str], search: str
) -> None:
    assert main(["launch", "--plan", search, f"from=source/{source['kept'].index}", "tracking=none"]) == 2
    said = capsys.readouterr().err
    assert "goes with search=lottery_ticket alone" in said
    assert "orchestrator train from=SWEEP/7 trains it again" in said


def test_without_a_trial_it_says_what_to_write(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--plan", "search=lottery_ticket", "tracking=none"]) == 2
    assert "write search=lottery_ticket from=SWEEP/7" in capsys.readouterr().err


def test_a_trial_without_its_weights_is_trained_again_first(
    source: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{source['uid']}/{source['gone'].index}"
    assert main(["launch", "--plan", "search=lottery_ticket", f"from={name}", "tracking=none"]) == 3
    said = capsys.readouterr().err
    assert f"the weights of {name} are not there" in said
    assert f"orchestrator train from={name}" in said


def test_a_trial_that_is_not_there_is_refused(source: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--plan", "search=lottery_ticket", "from=source/99", "tracking=none"]) == 2
    assert "source" in capsys.readouterr().err


def test_tickets_of_a_ticket_remove_more(
    source: dict[str, Any], tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_sweep(tickets)
    wanted = {"prune": "lottery_ticket", "prune.sparsity": 0.5, "prune.mask": "magnitude"}
    (parent,) = [trial for trial in record.trials.values() if trial.params == wanted]
    command = ["launch", "--plan", "search=lottery_ticket", f"from=tickets/{parent.index}", "tracking=none"]
    assert main([*command, "prune.sparsity=0.3,0.8"]) == 2
    assert "sparsity=0.3 is below the 0.5 of the trial that it comes from" in capsys.readouterr().err
    assert main([*command, "prune.sparsity=0.5,0.8"]) == 0, capsys.readouterr()


def test_the_usual_tickets_of_a_ticket_are_those_that_remove_more(
    source: dict[str, Any], tickets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_sweep(tickets)
    wanted = {"prune": "lottery_ticket", "prune.sparsity": 0.9, "prune.mask": "random"}
    (parent,) = [trial for trial in record.trials.values() if trial.params == wanted]
    command = ["launch", "--plan", "search=lottery_ticket", f"from=tickets/{parent.index}", "tracking=none"]
    assert main(command) == 0, capsys.readouterr()
    said = " ".join(capsys.readouterr().out.split())
    assert "configurations 3 " in said, "the whole network, and two masks of one density"
    assert "prune.sparsity is 0.95: the trial that it comes from lacks 0.9 of its weights already" in said
    assert main([*command, "prune.sparsity=0.8,0.95"]) == 2
    assert "sparsity=0.8 is below the 0.9 of the trial that it comes from" in capsys.readouterr().err
