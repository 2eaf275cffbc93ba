"""Trials that begin with weights from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import models
from orchestrator.base.errors import NotReadyError
from orchestrator.training import pretrained
from orchestrator.training.pretrained import is_name, is_trial, key_of
from orchestrator.training.trial import TrialRun

MakeTrial = Callable[..., Any]

CONVNET = {"_target_": "models.convnet.convnet", "stages": 2, "width": 4}
HEAD = {"_target_": "orchestrator.training.transfer.head"}


@pytest.fixture(autouse=True)
def forget() -> None:
    pretrained._kept.clear()


def written(path: Path, classes: int = 7, seed: int = 1) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Entries of a trial's configuration that name a file of weights, and the weights."""
    torch.manual_seed(seed)
    model = models.create("convnet", num_classes=classes, in_channels=1, image_size=(8, 8), stages=2, width=4)
    for name, tensor in model.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    contents = safetensors.torch.save(model.state_dict())
    path.write_bytes(contents)
    file = {"path": str(path), "sha256": hashlib.sha256(contents).hexdigest()}
    settings = {"model": CONVNET, "pretrained": str(path), "pretrained_files": {str(path): file}}
    return settings, model.state_dict()


def state(run: TrialRun) -> dict[str, Tensor]:
    return run._learner.whole.state_dict()


def test_a_trial_begins_with_the_weights_and_its_own_classifier(trial: MakeTrial, tmp_path: Path) -> None:
    settings, weights = written(tmp_path / "w.safetensors")
    found, plain = (state(TrialRun(trial("", **more))) for more in (settings, {"model": CONVNET}))
    for name, tensor in found.items():
        expected = plain if name.startswith("classifier") else weights
        assert torch.equal(tensor, expected[name]), name


def test_a_classifier_for_as_many_classes_is_taken_over(trial: MakeTrial, tmp_path: Path) -> None:
    settings, weights = written(tmp_path / "w.safetensors", classes=4)
    found = state(TrialRun(trial("", **settings)))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


def test_a_classifier_of_other_classes_is_its_own_even_where_there_are_as_many(
    trial: MakeTrial, tmp_path: Path
) -> None:
    settings, weights = written(tmp_path / "w.safetensors", classes=4)
    ((value, file),) = settings["pretrained_files"].items()
    settings["pretrained_files"] = {value: {**file, "other_classes": True}}
    found, plain = (state(TrialRun(trial("", **more))) for more in (settings, {"model": CONVNET}))
    for name, tensor in found.items():
        expected = plain if name.startswith("classifier") else weights
        assert torch.equal(tensor, expected[name]), name


def test_from_scratch_is_as_without_weights(trial: MakeTrial, tmp_path: Path) -> None:
    settings, _ = written(tmp_path / "w.safetensors", classes=4)
    scratch = {"_target_": "orchestrator.training.transfer.scratch"}
    aside, none = (TrialRun(trial("", **more)) for more in ({**settings, "transfer": scratch}, {"model": CONVNET}))
    assert [one.metrics["train/loss"] for one in aside] == [one.metrics["train/loss"] for one in none]
    assert all(torch.equal(tensor, state(none)[name]) for name, tensor in state(aside).items())


def test_frozen_weights_are_those_of_the_file_whatever_the_seed(trial: MakeTrial, tmp_path: Path) -> None:
    settings, weights = written(tmp_path / "w.safetensors")
    first, second = (TrialRun(trial("", **settings, transfer=HEAD, seed=seed)) for seed in (0, 1))
    assert first._learner.data is second._learner.data, "computed once for both"
    list(first)
    changed = {
        name for name, tensor in state(first).items() if name in weights and not torch.equal(tensor, weights[name])
    }
    assert {name.split(".")[0] for name in changed} == {"classifier"}


@pytest.mark.parametrize("transfer", [{}, HEAD], ids=["default", "head"])
def test_continues_bit_for_bit(trial: MakeTrial, tmp_path: Path, transfer: Any) -> None:
    settings, _ = written(tmp_path / "w.safetensors")
    settings |= {"transfer": transfer, "epochs": 4}
    straight = TrialRun(trial("straight", **settings))
    expected = list(straight)
    first = TrialRun(trial("cut", **settings))
    next(first), next(first)
    first.save()
    second = TrialRun(trial("cut", attempt=2, **settings))
    assert [r.metrics["train/loss"] for r in second] == [r.metrics["train/loss"] for r in expected[2:]]
    assert all(torch.equal(a, b) for a, b in zip(state(straight).values(), state(second).values(), strict=True))


def test_a_checkpoint_of_other_weights_is_refused_and_of_moved_ones_is_not(trial: MakeTrial, tmp_path: Path) -> None:
    settings, _ = written(tmp_path / "w.safetensors")
    first = TrialRun(trial("kept", **settings))
    next(first)
    first.save()
    (tmp_path / "w.safetensors").rename(tmp_path / "moved.safetensors")
    (value, file), *_ = settings["pretrained_files"].items()
    moved = {value: {**file, "path": str(tmp_path / "moved.safetensors")}}
    assert TrialRun(trial("kept", attempt=2, **settings | {"pretrained_files": moved})).epoch == 1
    other, _ = written(tmp_path / "w.safetensors", seed=2)
    with pytest.raises(
        NotReadyError, match=rf"of another configuration: pretrained={file['sha256']} there, [0-9a-f]+ here"
    ):
        TrialRun(trial("kept", attempt=3, **other))


def test_a_file_that_has_changed_is_refused(trial: MakeTrial, tmp_path: Path) -> None:
    settings, _ = written(tmp_path / "w.safetensors")
    written(tmp_path / "w.safetensors", seed=2)
    with pytest.raises(NotReadyError, match=r"w\.safetensors is not the file that the sweep began with"):
        TrialRun(trial("", **settings))


def test_a_configuration_that_does_not_say_which_file_is_refused(trial: MakeTrial, tmp_path: Path) -> None:
    settings, _ = written(tmp_path / "w.safetensors")
    with pytest.raises(NotReadyError, match="does not say which file this is"):
        TrialRun(trial("", **settings | {"pretrained_files": {}}))


def test_large_files_are_read_again_for_each_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = written(tmp_path / "w.safetensors")
    (file,) = settings["pretrained_files"].values()
    assert pretrained.read(Path(file["path"]), file["sha256"]) is pretrained.read(Path(file["path"]), file["sha256"])
    pretrained._kept.clear()
    monkeypatch.setattr(pretrained, "KEPT_BYTES", 10)
    assert pretrained.read(Path(file["path"]), file["sha256"]) is not pretrained.read(
        Path(file["path"]), file["sha256"]
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("digits-0a1b2c3d/7", "trial"),
        ("weights.pth", "file"),
        ("weights.safetensors", "file"),
        ("/path/to/weights", "file"),
        ("./weights", "file"),
        ("folder/sub/7", "file"),
        ("~/weights", "file"),
        ("imagenet", "name"),
        ("IMAGENET1K_V1", "name"),
    ],
)
def test_kinds_of_values(value: str, kind: str) -> None:
    assert ("trial" if is_trial(value) else "name" if is_name(value) else "file") == kind
    assert key_of(value, "resnet18") == (f"{value} resnet18" if kind == "name" else value)


def test_a_file_of_that_name_goes_before_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/7").write_bytes(b"")
    assert not is_trial("weights/7")


def test_a_file_larger_than_any_network_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """It has no blocks on the disk, but would take as much memory as it says."""
    path = tmp_path / "huge.pth"
    with path.open("wb") as file:
        file.truncate(40 * 2**30)

    with pytest.raises(ValueError, match=r"has 40 GiB; weights of more than 8 GiB are not read"):
        pretrained.read(path, "0" * 64)
