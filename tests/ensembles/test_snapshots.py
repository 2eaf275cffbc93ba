"""The snapshots of one training in a comparison: computed by hand, honest in their validation, served, and what is refused."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, log_loss

from orchestrator import load_model
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import BEST, snapshot, trial_folder
from orchestrator.cli.compared import lines_of, next_steps
from orchestrator.ensembles import record
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.comparison import Comparison
from orchestrator.ensembles.finishing import finish
from orchestrator.ensembles.gathering import Gathered, gather
from orchestrator.ensembles.methods.snapshots import LACKING
from orchestrator.ensembles.page.tables import whole
from orchestrator.ensembles.page.view import View
from orchestrator.training.build import build_learner
from orchestrator.training.data import load
from tests.ensembles.test_soups import rows_of, torch_as_before
from tests.serving.trained import DIGITS, config, trained_sweep
from tests.synthetic import Sweep

NORM = {"_target_": "models.layers.norm.batch_norm"}
CYCLIC = {"_target_": "orchestrator.training.schedules.cyclic_cosine", "cycles": 3, "warmup_epochs": 0.0}
FEW: dict[str, Any] = {"resamples": 200}


def configs() -> list[dict[str, Any]]:
    """Two trials with snapshots and one without, which begin differently."""
    common: dict[str, Any] = {"norm": NORM, "model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 12}}
    cyclic = {"schedule": CYCLIC, "snapshots": 3, "epochs": 3}
    return [config(**common, **cyclic, seed=seed) for seed in (1, 2)] + [config(**common, seed=3)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    with torch_as_before():
        facts = {"num_classes": 10, "in_channels": 1, "image_size": [8, 8]}
        return trained_sweep(tmp_path_factory.mktemp("runs") / "cycles-0000aaaa", *configs(), facts=facts)


@pytest.fixture(scope="module")
def gathered(sweep: Sweep) -> Gathered:
    return gather(["cycles"], sweep.folder.parent)


@pytest.fixture(scope="module")
def made(gathered: Gathered) -> tuple[Comparison, dict[str, bytes]]:
    networks: dict[str, bytes] = {}
    return compare(gathered, methods=["snapshots", "mean"], networks=networks, **FEW), networks


def taken(found: Comparison) -> list[Any]:
    return [found["members"][place] for place in rows_of(found)["snapshots"]["members"]]


def by_hand(sweep: Sweep, number: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean probabilities of the three networks of a trial, by a network of its own, and the labels."""
    with torch_as_before():
        learner = build_learner(configs()[number])
    data, found = learner.data.splits[split], []
    for file in (snapshot(1), snapshot(2), snapshot(3)):
        learner.model.load_state_dict(load_file(trial_folder(sweep.folder, number) / file))
        with torch.inference_mode():
            found.append(torch.softmax(learner.model.eval()(data.slice(0, len(data))).double(), 1))
    return torch.stack(found).mean(0).numpy(), data.labels.numpy()


def test_the_test_scores_are_those_of_the_mean_by_hand(sweep: Sweep, made: Any) -> None:
    found = made[0]
    row = rows_of(found)["snapshots"]
    trial = found["members"][taken(found)[0]["ingredients"][0]]["name"]
    shares, labels = by_hand(sweep, int(trial.rpartition("/")[2]), "test")
    assert row["test"]["measures"]["accuracy"] == accuracy_score(labels, shares.argmax(1))
    hot = shares ** (1 / row["temperature"])
    hot /= hot.sum(1, keepdims=True)
    assert row["test"]["measures"]["nll"] == pytest.approx(log_loss(labels, hot), rel=1e-4)


def test_they_are_of_the_best_trial_that_has_some_and_cost_so_many_networks(made: Any) -> None:
    found = made[0]
    members, row = taken(found), rows_of(found)["snapshots"]
    (place,) = {one for member in members for one in member["ingredients"]}
    trials = [member["name"] for member in found["members"][:3]]
    assert place == next(at for at, name in enumerate(trials) if not name.endswith("/2")), "the third has no snapshots"
    name = found["members"][place]["name"]
    assert [member["name"] for member in members] == [f"snapshot {number} of {name}" for number in (1, 2, 3)]
    assert row["weights"] == [1 / 3] * 3
    assert row["multiply_adds"] == 3 * (64 * 12 + 12 * 10)
    assert row["parameters"] == 3 * found["members"][place]["parameters"]
    assert row["described"].endswith(f"the 3 of one training, {name}")


def test_validation_is_honest_and_before_the_test(sweep: Sweep, gathered: Gathered) -> None:
    """With one trial that has snapshots nothing is chosen: cross-fitted and plain are the same numbers."""
    runs = sweep.folder.parent.parent / "one"
    shutil.copytree(sweep.folder.parent, runs)
    (trial_folder(runs / sweep.folder.name, 1) / BEST).unlink()
    found = compare(gather(["cycles"], runs), methods=["snapshots"], temperature="none", **FEW)
    shares, labels = by_hand(sweep, 0, "val")
    row = rows_of(found)["snapshots"]
    assert row["val"]["measures"]["accuracy"] == accuracy_score(labels, shares.argmax(1))
    assert row["val"]["measures"]["nll"] == pytest.approx(log_loss(labels, shares), rel=1e-6)


def test_temperatures_may_come_before(gathered: Gathered) -> None:
    row = rows_of(compare(gathered, methods=["snapshots"], temperature="before", **FEW))["snapshots"]
    assert len(row["member_temperatures"]) == 3
    assert row["temperature"] == 1


def test_the_record_the_terminal_and_the_page_tell_of_them(sweep: Sweep, made: Any, tmp_path: Path) -> None:
    found = copy.deepcopy(made[0])
    found["winner"] = "snapshots"
    runs = tmp_path / "runs"
    shutil.copytree(sweep.folder.parent, runs)
    path = record.write(found, runs)
    assert record.read(path) == json.loads(json.dumps(found))
    said = " ".join(" ".join(lines_of(found, path)).split())
    assert "snapshots, of 3 snapshots of one trial, wins on validation" in said
    view = View(found, {})
    assert view.taken(rows_of(found)["snapshots"]) == pytest.approx({taken(found)[0]["ingredients"][0]: 1.0})
    assert whole(view) == "3 trials and 3 networks made of their weights"
    (shown,) = [line for line in next_steps(found, path.parent, registered=None) if " show " in line]
    assert shown.split() == [
        *["orchestrator", "show", found["members"][taken(found)[0]["ingredients"][0]]["name"]],
        *["--runs-dir", str(runs), "the", "trial", "whose", "snapshots", "they", "are"],
    ]


def test_the_winner_is_a_model_that_says_the_same(sweep: Sweep, made: Any, gathered: Gathered, tmp_path: Path) -> None:
    """From its files, without the sweep: the probabilities of which the recorded scores are."""
    found = copy.deepcopy(made[0])
    found["winner"] = "snapshots"
    runs = tmp_path / "runs"
    shutil.copytree(sweep.folder.parent, runs)
    path = record.write(found, runs)
    told = [*finish(found, path.parent, gathered.sources, register=None, networks=made[1])]
    assert told == [f"page: {path.parent / 'comparison.html'}"], "nothing kept it from being a model"
    shutil.rmtree(runs / sweep.folder.name)
    model = load_model(found["uid"], runs)
    dataset = load(DIGITS)
    ids = dataset.splits["test"]
    said = model.predict(dataset.images[ids].transpose(0, 2, 3, 1)).probabilities
    row = rows_of(found)["snapshots"]
    assert accuracy_score(dataset.labels[ids], said.argmax(1)) == row["test"]["measures"]["accuracy"]
    assert log_loss(dataset.labels[ids], said) == pytest.approx(row["test"]["measures"]["nll"], rel=1e-4)


def test_a_winner_whose_snapshots_went_since_is_no_model_and_says_so(
    sweep: Sweep, made: Any, gathered: Gathered, tmp_path: Path
) -> None:
    found = copy.deepcopy(made[0])
    found["winner"] = "snapshots"
    runs = tmp_path / "runs"
    shutil.copytree(sweep.folder.parent, runs)
    for path in runs.rglob(snapshot(2)):
        path.unlink()
    path = record.write(found, runs)
    (_, why, *_) = finish(found, path.parent, gathered.sources, register=None, networks=made[1])
    assert "the winner cannot be kept as a model: the weights of 1 of its 3 members are not there (snapshot 2 of" in why


def test_a_damaged_snapshot_leaves_its_trial_out_of_this_alone(sweep: Sweep, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sweep.folder.parent, runs)
    path = trial_folder(runs / sweep.folder.name, 0) / snapshot(2)
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)
    found = compare(gather(["cycles"], runs), methods=["snapshots", "mean"], **FEW)
    assert {member["name"].rpartition(" ")[2] for member in taken(found)} == {"cycles-0000aaaa/1"}
    assert len(rows_of(found)["mean"]["members"]) == 3
    # which is looked at only where it is the best of some examples
    assert all(name == "cycles-0000aaaa/0" and "of snapshots alone" in why for name, why in found["left_out"])


@pytest.mark.parametrize(("damage", "said"), [("gone", "is not there"), ("link", "is a link")])
def test_a_trial_that_lacks_one_of_its_snapshots_is_left_out_by_name(
    sweep: Sweep, tmp_path: Path, damage: str, said: str
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sweep.folder.parent, runs)
    for index in (0, 1):
        path = trial_folder(runs / sweep.folder.name, index) / snapshot(1)
        path.unlink()
        if damage == "link":
            path.symlink_to(path.with_name(snapshot(2)))
    found = compare(gather(["cycles"], runs), methods=["snapshots", "mean"], **FEW)
    reason = f"of snapshots alone: {snapshot(1)} {said}"
    assert sorted(found["left_out"]) == [("cycles-0000aaaa/0", reason), ("cycles-0000aaaa/1", reason)]
    assert "see what was left out" in dict(found["not_tried"])["snapshots"]


def test_without_snapshots_it_is_not_tried_and_says_how_to_get_some(sweep: Sweep, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(sweep.folder.parent, runs)
    for index in (0, 1):
        (trial_folder(runs / sweep.folder.name, index) / BEST).unlink()
    assert dict(compare(gather(["cycles"], runs), methods=["snapshots"], **FEW)["not_tried"]) == {"snapshots": LACKING}


def test_a_record_that_names_another_file_is_refused(made: Any, tmp_path: Path) -> None:
    """It is read as a stranger's: no path comes from it."""
    found = copy.deepcopy(made[0])
    taken(found)[0]["file"] = "../../best.safetensors"
    path = tmp_path / "comparisons" / found["uid"] / "comparison.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(found))
    with pytest.raises(NotReadyError, match=r"file is no snapshot of one trial"):
        record.read(path)
