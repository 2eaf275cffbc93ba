"""`pretrained` while a sweep is planned: what a value stands for, what is recorded of it, and what a resume refuses."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import models
from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.config import resuming
from orchestrator.config.plan import SweepPlan, trial_config
from orchestrator.config.planning import plan
from orchestrator.housekeeping.loading import kept_weights
from orchestrator.training import pretrained
from orchestrator.training.comparison import compared, differences
from orchestrator.training.pretrained import KeptWeights

MODEL = ("model=convnet", "model.stages=2", "model.width=4", "data=synthetic", "search=none")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    pretrained._kept.clear()
    return tmp_path


def weights(path: str, classes: int = 4, name: str = "convnet", seed: int = 0, **own: Any) -> str:
    """Writes the weights of a network; their SHA-256."""
    torch.manual_seed(seed)
    own = own or {"stages": 2, "width": 4}
    model = models.create(name, num_classes=classes, in_channels=1, image_size=(8, 8), **own)
    contents = safetensors.torch.save(model.state_dict())
    Path(path).write_bytes(contents)
    return hashlib.sha256(contents).hexdigest()


def refused(*overrides: str, **how: Any) -> str:
    with pytest.raises(ConfigError, match=r"\S") as caught:
        plan([*MODEL, *overrides], **how)
    return str(caught.value)


def test_a_file_is_recorded_with_its_sha256(tmp_path: Path) -> None:
    sha256 = weights("own.safetensors")
    made = plan([*MODEL, "pretrained=own.safetensors"])
    assert made.base["pretrained"] == "own.safetensors"
    files = {"own.safetensors": {"path": str(tmp_path / "own.safetensors"), "sha256": sha256}}
    assert made.base["pretrained_files"] == files
    assert any("its classifier is taken over, too, as it has 4 classes" in note for note in made.notes)
    again = SweepPlan.from_json(made.to_json())
    assert trial_config(again, {})["pretrained_files"] == files


def test_a_sweep_without_weights_records_no_files() -> None:
    assert "pretrained_files" not in plan([*MODEL]).base


def test_several_files_are_searched() -> None:
    weights("one.safetensors"), weights("two.safetensors", classes=7)
    made = plan([*MODEL, "pretrained=one.safetensors,two.safetensors,null"])
    assert made.root.trials == 3
    assert sorted(made.base["pretrained_files"]) == ["one.safetensors", "two.safetensors"]
    assert any("the file is for 7 classes, the data have 4" in note for note in made.notes)


def kept(runs_dir: Path, name: str) -> KeptWeights:
    assert name == "short/3"
    return KeptWeights(runs_dir / "own.safetensors", "short-0a1b2c3d/3", CONFIG)


CONFIG: dict[str, Any] = {
    "choices": {"model": "convnet", "norm": "default"},
    "model": {"_target_": "models.convnet.convnet", "stages": 2, "width": 4, "dropout": 0.0},
    "norm": {},
    "activation": {},
}


def test_a_trial_of_ours_is_recorded_by_its_whole_name(tmp_path: Path) -> None:
    weights("own.safetensors")
    made = plan([*MODEL, "pretrained=short/3", f"runs_dir={tmp_path}"], find_trial=kept)
    full = "short-0a1b2c3d/3"
    assert made.base["pretrained"] == made.settings["pretrained"] == full
    assert made.base["pretrained_files"][full]["trial"] == full
    searched = plan([*MODEL, "pretrained=short/3,null", f"runs_dir={tmp_path}"], find_trial=kept)
    (parameter,) = searched.space.parameters
    assert parameter.domain.ends() == (full, None)


def test_what_the_trial_of_the_weights_had_otherwise_is_told(tmp_path: Path) -> None:
    weights("own.safetensors")
    where = f"runs_dir={tmp_path}"
    made = plan([*MODEL, "pretrained=short/3", where, "activation=tanh"], find_trial=kept)
    assert "pretrained=short-0a1b2c3d/3: activation is default there, tanh here" in made.notes
    wider = refused("pretrained=short/3", where, "norm=none", find_trial=kept)
    assert "holds 8 that the network has not (stage1.norm" in wider
    assert wider.endswith("norm is default there, none here")


def test_a_classifier_of_other_classes_of_the_same_data_is_not_taken_over(tmp_path: Path) -> None:
    weights("own.safetensors", classes=3)
    digits = {"_target_": "orchestrator.training.data.digits.digits", "classes": [0, 1, 2]}

    def of_digits(runs_dir: Path, name: str) -> KeptWeights:
        return replace(kept(runs_dir, name), config={**CONFIG, "data": digits})

    own = [*MODEL, "data=digits", "pretrained=short/3", f"runs_dir={tmp_path}"]
    own.remove("data=synthetic")
    (file,) = plan([*own, "data.classes=[3,4,5]"], find_trial=of_digits).base["pretrained_files"].values()
    assert file["other_classes"] is True
    made = plan([*own, "data.classes=[0,1,2]"], find_trial=of_digits)
    assert "other_classes" not in next(iter(made.base["pretrained_files"].values()))
    assert any("its classifier is taken over, too, as it has 3 classes" in note for note in made.notes)


@pytest.mark.parametrize("where", [[], ["runs_dir=elsewhere"]])
def test_the_experiment_whose_weights_are_missing_is_named(tmp_path: Path, where: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(["experiment=e16_transfer", *where], find_trial=kept_weights)
    (problem,) = caught.value.problems
    folder = tmp_path / ("elsewhere" if where else "runs")
    assert str(problem).startswith(
        f"pretrained=e16_source/0: are weights of experiment=e16_source, of which there is no sweep in {folder} yet; "
        "run it first:  orchestrator launch experiment=e16_source"
    )
    assert (f" runs_dir={folder}" in str(problem)) == bool(where)


def test_a_sweep_that_is_missing_and_no_experiment_is_told_as_ever() -> None:
    said = refused("pretrained=mine/3", find_trial=kept_weights)
    assert said.startswith("pretrained=mine/3: no sweep of that name in ")
    assert "run it first" not in said


def test_search_over_init_is_refused_where_the_file_gives_everything() -> None:
    """The network has 4 classes, as its data: every tensor is the file's."""
    weights("own.safetensors")
    said = refused("pretrained=own.safetensors", "init=zero,lsuv")
    why = "init: decides nothing: pretrained=own.safetensors gives all tensors of the network"
    assert said == f"{why}; take it out of the search with init=default"
    assert plan([*MODEL, "pretrained=own.safetensors", "init=default"]).base["choices"]["init"] == "default"
    scale = refused("pretrained=own.safetensors", "init=kaiming", "init.scale=1,2")
    assert scale.endswith("take it out of the search with ~init.scale")


def test_what_init_decides_beside_a_file_is_told() -> None:
    weights("seven.safetensors", classes=7), weights("own.safetensors")
    made = plan([*MODEL, "pretrained=seven.safetensors", "init=zero,lsuv"])
    network = models.create("convnet", num_classes=4, in_channels=1, image_size=(8, 8), stages=2, width=4)
    classifier = [name for name in network.state_dict() if name.startswith("classifier")]
    assert len(classifier) == 2
    said = f"pretrained=seven.safetensors: init decides {', '.join(classifier)} alone, the rest comes from the file"
    assert said in made.notes
    assert "as_initialized" not in made.facts
    both = plan([*MODEL, "pretrained=own.safetensors,null", "init=zero,lsuv"])
    assert "pretrained=own.safetensors: init decides nothing, the rest comes from the file" in both.notes
    assert not any("init decides" in note for note in plan([*MODEL, "pretrained=seven.safetensors"]).notes)


def test_a_trial_is_looked_up_where_the_sweep_is_launched_alone() -> None:
    assert "names a trial, which can only be looked up where the sweep is launched" in refused("pretrained=short/3")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("folder", "is a folder; name the file in it: own.safetensors"),
        (
            "imagnet",
            "is neither a file that is there, nor a trial (SWEEP/7), nor a name of weights; did you mean imagenet?",
        ),
        ("huge.pth", "has 40 GiB; weights of more than 8 GiB are not read"),
        ("text.pth", "is no state dict that torch can read"),
        ("''", "must be a file (.pth, .safetensors), a trial of ours (SWEEP/7) or imagenet"),
        ("imagenet", "torchvision has no weights for model=convnet"),
        ("deep.safetensors", "holds 5 that the network has not (stage3"),
        ("wide.safetensors", "stage1.affine.weight is [8, 1, 3, 3] there and [4, 1, 3, 3] here"),
    ],
)
def test_what_cannot_be_used_is_refused(value: str, message: str) -> None:
    Path("folder").mkdir()
    weights("folder/own.safetensors")
    weights("deep.safetensors", stages=3, width=4)
    weights("wide.safetensors", stages=2, width=8)
    Path("text.pth").write_text("no weights")
    with Path("huge.pth").open("wb") as file:
        file.truncate(40 * 2**30)  # no blocks on the disk
    assert message in refused(f"pretrained={value}")


def test_a_file_that_is_not_there_is_not_ready_and_the_nearest_is_named() -> None:
    weights("weights.safetensors")
    with pytest.raises(NotReadyError, match=r"does not exist; did you mean .*/weights\.safetensors\?"):
        plan([*MODEL, "pretrained=wieghts.safetensors"])


RESNET = ["model=resnet18", "data=synthetic", "data.image_size=32", "search=none", "pretrained=imagenet"]


def test_a_name_that_cannot_be_downloaded_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    path = tmp_path / "hub/hub/checkpoints/resnet18-f37072fd.pth"
    with pytest.raises(
        NotReadyError, match=rf"resnet18-f37072fd\.pth could not be downloaded .*put the file at {path}"
    ):
        plan(RESNET)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="pretrained=imagenet: is no state dict that torch can read"):
        plan(RESNET)


def test_plan_alone_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    made = plan(RESNET, fetch=False)
    assert "pretrained=imagenet is not here: a launch brings it, and tries it on the model then" in made.notes


@pytest.mark.parametrize("transfer", ["head", "stage_probe", "few_layers", "many_layers"])
def test_transfer_without_weights_is_told(transfer: str) -> None:
    made = plan([*MODEL, f"transfer={transfer}"])
    assert f"transfer={transfer} without pretrained=: what is not trained stays as it was initialized" in made.notes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("transfer=head", "augment=flip"), "transfer=head: computes the features once, and augmentation changes"),
        (("transfer=stage_probe", "transfer.stage=3"), "stage must be at most 2"),
        (("transfer=few_layers", "transfer.layers=4"), "layers must be at most 3"),
        (("transfer=all", "transfer.lr_factor=2"), "lr_factor must be more than 0 and at most 1"),
        (("transfer=hed",), "did you mean head?"),
    ],
)
def test_a_choice_of_transfer_that_cannot_work_is_refused(overrides: tuple[str, ...], message: str) -> None:
    assert message in refused(*overrides)


def test_a_resume_with_another_file_is_refused() -> None:
    weights("own.safetensors")
    old = plan([*MODEL, "pretrained=own.safetensors"])
    resuming.checked(old, plan([*MODEL, "pretrained=own.safetensors"]), suggested=1)
    weights("own.safetensors", seed=1)
    with pytest.raises(
        ConfigError, match=r"own\.safetensors is not the file with which the sweep began; put that back"
    ):
        resuming.checked(old, plan([*MODEL, "pretrained=own.safetensors"]), suggested=1)
    with pytest.raises(ConfigError, match="pretrained: may not change when a sweep is resumed"):
        resuming.checked(old, plan([*MODEL]), suggested=1)


def test_files_of_values_that_are_no_longer_searched_stay_known() -> None:
    weights("one.safetensors"), weights("two.safetensors")
    old = plan([*MODEL, "pretrained=one.safetensors,null"])
    new, _ = resuming.checked(old, plan([*MODEL, "pretrained=two.safetensors,null"]), suggested=1)
    assert sorted(new.base["pretrained_files"]) == ["one.safetensors", "two.safetensors"]


def test_a_moved_file_is_the_same_and_a_changed_one_is_not(tmp_path: Path) -> None:
    weights("own.safetensors")
    config = trial_config(plan([*MODEL, "pretrained=own.safetensors"]), {})
    file = config["pretrained_files"]["own.safetensors"]
    moved = {**config, "pretrained_files": {"own.safetensors": {**file, "path": "/elsewhere"}}}
    other = {**config, "pretrained_files": {"own.safetensors": {**file, "sha256": "0" * 64}}}
    assert differences(compared(config), compared(moved)) == []
    assert differences(compared(config), compared(other)) == [f"pretrained={file['sha256']} there, {'0' * 64} here"]


def test_a_worker_refuses_another_file(tmp_path: Path) -> None:
    sha256 = weights("own.safetensors")
    assert pretrained.read(tmp_path / "own.safetensors", sha256)
    weights("own.safetensors", seed=1)
    assert pretrained.read(tmp_path / "own.safetensors", sha256), "as it was read"
    pretrained._kept.clear()
    with pytest.raises(NotReadyError, match="is not the file that the sweep began with"):
        pretrained.read(tmp_path / "own.safetensors", sha256)
    (tmp_path / "own.safetensors").unlink()
    with pytest.raises(NotReadyError, match="cannot be read here"):
        pretrained.read(tmp_path / "own.safetensors", sha256)


def test_a_plan_with_a_hostile_file_is_refused() -> None:
    weights("own.safetensors")
    made = plan([*MODEL, "pretrained=own.safetensors"])
    for forged in ({"path": 3, "sha256": "0" * 64}, {"path": "x", "sha256": "short"}, {"sha256": "0" * 64}, []):
        bad = replace(made, base={**made.base, "pretrained_files": {"own.safetensors": forged}})
        with pytest.raises(NotReadyError, match="the plan of the sweep is damaged"):
            SweepPlan.from_json(bad.to_json())
