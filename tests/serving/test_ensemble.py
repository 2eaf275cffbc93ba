"""An ensemble as a model: what its folder holds, that it says what its members' stored predictions say, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import orchestrator
from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.layout import BEST, PREDICTIONS, trial_folder
from orchestrator.base.pooling import Ensemble
from orchestrator.journal.record import read_sweep
from orchestrator.serving.ensemble import Member, write_ensemble
from orchestrator.serving.pooled import EnsemblePredictor, _load_pyfunc, load_ensemble, member_file
from orchestrator.serving.predictor import ResizedWarning
from orchestrator.serving.pyfunc import DESCRIPTION, stamp
from orchestrator.training import checkpoint
from orchestrator.training.data import load
from tests.serving.test_mlflow import ELSEWHERE, SITE, ask, serving, wait_for
from tests.serving.trained import DIGITS, OWN, config, photographs, trained_sweep
from tests.synthetic import Sweep

NAME = "best-0a1b2c3d"
TIME_MS = 1_700_000_000_000
CLASSES = [str(number) for number in range(10)]


@pytest.fixture(scope="module")
def sweep(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two members of different preprocessing and width."""
    os.environ["ORCHESTRATOR_CACHE"] = cache
    before = torch.get_num_threads()
    scale = {"_target_": f"{OWN}.preprocess.scale.scale"}
    made = trained_sweep(
        tmp_path_factory.mktemp("runs") / "digits-0a1b2c3d", config(), config(seed=1, preprocess=scale, epochs=2)
    )
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)
    return made


def members_of(sweep: Sweep) -> list[Member]:
    trials = read_sweep(sweep.folder).trials
    return [
        (f"{sweep.uid}/{index}", trial_folder(sweep.folder, index) / BEST, trial.config)
        for index, trial in sorted(trials.items())
    ]


def stored(sweep: Sweep, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Logits [m, N, K] and rows of the data set, as the trials stored them."""
    found = [load_file(trial_folder(sweep.folder, index) / PREDICTIONS) for index in read_sweep(sweep.folder).trials]
    return np.stack([one[f"{split}_logits"].double().numpy() for one in found]), found[0][f"{split}_ids"].numpy()


def shares(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(found / found.sum(-1, keepdims=True))


def logs(logits: np.ndarray) -> np.ndarray:
    return np.maximum(np.log(shares(logits)), np.log(1e-12))


DRAWN = np.random.default_rng(0)
COEFFICIENTS, INTERCEPT = DRAWN.normal(size=(2, 10, 10)), DRAWN.normal(size=10)
BY_HAND: dict[str, tuple[Ensemble, Callable[[np.ndarray], np.ndarray]]] = {
    "probabilities": (Ensemble((0, 1), (0.25, 0.75)), lambda z: 0.25 * shares(z[0]) + 0.75 * shares(z[1])),
    "logits": (Ensemble((0, 1), (0.25, 0.75), "logits"), lambda z: shares(0.25 * z[0] + 0.75 * z[1])),
    "temperature": (
        Ensemble((4, 7), (0.5, 0.5), temperature=2.0),
        lambda z: shares(np.log(shares(z).mean(0)) / 2.0),
    ),
    "member temperatures": (
        Ensemble((0, 1), (0.5, 0.5), member_temperatures=(0.5, 4.0)),
        lambda z: (shares(z[0] / 0.5) + shares(z[1] / 4.0)) / 2,
    ),
    "votes": (
        Ensemble((0, 1), (0.5, 0.5), "votes"),
        lambda z: (np.eye(10)[z.argmax(2)].sum(0) + shares(z).mean(0)) / 3,
    ),
    "stacked": (
        Ensemble((0, 1), (0.5, 0.5), "stacked", coefficients_mKK=COEFFICIENTS, intercept_K=INTERCEPT),
        lambda z: shares(logs(z[0]) @ COEFFICIENTS[0] + logs(z[1]) @ COEFFICIENTS[1] + INTERCEPT),
    ),
}


@pytest.mark.parametrize("how", BY_HAND)
def test_it_says_what_the_stored_predictions_pooled_by_hand_say(sweep: Sweep, tmp_path: Path, how: str) -> None:
    ensemble, by_hand = BY_HAND[how]
    write_ensemble(tmp_path, members_of(sweep), ensemble, name=NAME, time_ms=TIME_MS)
    logits, ids = stored(sweep)
    images = load(DIGITS).images[ids].transpose(0, 2, 3, 1)
    found = load_ensemble(tmp_path / "data").predict(images)
    assert np.abs(found.probabilities - by_hand(logits)).max() < 1e-5
    assert found.classes == tuple(CLASSES)
    frame = _load_pyfunc(str(tmp_path / "data")).predict(images)
    assert list(frame.columns) == CLASSES
    assert np.array_equal(frame.to_numpy(), found.probabilities)


@pytest.fixture
def model(sweep: Sweep, tmp_path: Path) -> Path:
    write_ensemble(tmp_path / "model", members_of(sweep), BY_HAND["probabilities"][0], name=NAME, time_ms=TIME_MS)
    return tmp_path / "model"


FRESH = """
import sys, numpy, orchestrator
print(orchestrator.load_model(sys.argv[1]).predict(numpy.load(sys.argv[2])).probabilities.tolist())
"""


@pytest.mark.slow
def test_a_fresh_process_says_the_same(sweep: Sweep, model: Path, tmp_path: Path) -> None:
    logits, ids = stored(sweep)
    np.save(tmp_path / "images.npy", load(DIGITS).images[ids].transpose(0, 2, 3, 1))
    command = [sys.executable, "-c", FRESH, str(model), str(tmp_path / "images.npy")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert np.abs(np.array(json.loads(printed)) - BY_HAND["probabilities"][1](logits)).max() < 1e-5


def test_the_files_of_an_ensemble(sweep: Sweep, model: Path, tmp_path: Path) -> None:
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert files == {
        *("MLmodel", "README.md", "code/orchestrator.zip", "conda.yaml", "input_example.json", "python_env.yaml"),
        *("requirements.txt", "serving_input_example.json", f"data/{DESCRIPTION}"),
        *("data/member-00000.safetensors", "data/member-00001.safetensors"),
    }
    said = yaml.safe_load((model / "MLmodel").read_text())
    assert said["flavors"]["python_function"]["loader_module"] == "orchestrator.serving.pooled"
    assert [column["name"] for column in json.loads(said["signature"]["outputs"])] == CLASSES
    assert "torch==" in (model / "requirements.txt").read_text()
    again = tmp_path / "again"
    write_ensemble(again, members_of(sweep), BY_HAND["probabilities"][0], name=NAME, time_ms=TIME_MS)
    assert all((again / name).read_bytes() == (model / name).read_bytes() for name in files), "the same to the byte"


def test_the_weights_of_a_trial_may_go(sweep: Sweep, model: Path) -> None:
    """They have a name of their own in the model, or are copied."""
    own = trial_folder(sweep.folder, 0) / BEST
    contents = own.read_bytes()
    own.unlink()
    try:
        assert load_ensemble(model / "data").name == NAME
        with pytest.raises(NotReadyError, match=rf"{sweep.uid}/0 are not there .*train from={sweep.uid}/0"):
            write_ensemble(model.parent / "other", members_of(sweep), BY_HAND["logits"][0], name=NAME, time_ms=TIME_MS)
        assert not (model.parent / "other").exists()
    finally:
        own.write_bytes(contents)


def test_weights_that_do_not_say_enough_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    first, second = members_of(sweep)
    found = checkpoint.load(first[1], uid=None)
    older = tmp_path / BEST
    older.write_bytes(
        checkpoint.pack(found.tensors, {k: v for k, v in found.state.items() if k != "inputs"}, stamp=True)
    )
    with pytest.raises(NotReadyError, match="/0 do not say how its images were preprocessed"):
        write_ensemble(
            tmp_path / "model",
            [(first[0], older, first[2]), second],
            BY_HAND["logits"][0],
            name=NAME,
            time_ms=TIME_MS,
        )


@pytest.mark.parametrize(
    ("ensemble", "why"),
    [
        (Ensemble((0, 1), (0.5, 0.6)), "weights sum to 1.1"),
        (Ensemble((0, 1), (1.0,)), "2 members and 1 weights"),
        (Ensemble((0, 1), (0.5, 0.5), temperature=float("nan")), "pooled.temperature must be a temperature"),
        (Ensemble((0, 1), (1.0, 0.0)), r"pooled.weights\[1\] must be a weight above 0"),
    ],
)
def test_an_ensemble_that_cannot_be_is_not_written(sweep: Sweep, tmp_path: Path, ensemble: Ensemble, why: str) -> None:
    with pytest.raises(NotReadyError, match=why):
        write_ensemble(tmp_path / "model", members_of(sweep), ensemble, name=NAME, time_ms=TIME_MS)
    assert not (tmp_path / "model" / "MLmodel").exists()


def rewrite(model: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The description as a stranger writes it, with a stamp that fits."""
    path = model / "data" / DESCRIPTION
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said | {"sha256": stamp(said)}))


def test_a_description_that_was_changed_is_refused(model: Path) -> None:
    path = model / "data" / DESCRIPTION
    path.write_text(path.read_text().replace("0.25", "0.26").replace("0.75", "0.74"))
    with pytest.raises(NotReadyError, match="was changed since it was written"):
        load_ensemble(model / "data")


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        (lambda said: said["members"][1]["network"]["model"].update(_target_="os.system"), ConfigError, "os.system"),
        (lambda said: said["members"][1]["network"]["norm"].update(_target_="os.abort"), ConfigError, "os.abort"),
        (
            lambda said: said["members"][1]["network"]["model"].update(width=10**15),
            NotReadyError,
            "the network's is .1000000000000000",
        ),
        (lambda said: said["members"][1].update(weights="0" * 64), NotReadyError, "not the file of which"),
        (lambda said: said["members"].reverse(), NotReadyError, "not the file of which"),
        (lambda said: said["members"][1]["inputs"]["classes"].reverse(), NotReadyError, "has other classes than"),
        (lambda said: said["members"][1]["inputs"].update(dtype="float32"), NotReadyError, "takes float32"),
        (lambda said: said["members"][1]["inputs"].update(scale=None, shift=None), NotReadyError, "scale must be"),
        (lambda said: said["members"][1]["inputs"].update(height=10**9), NotReadyError, "images of at most"),
        (lambda said: said["members"][1]["inputs"].update(height=10**4), NotReadyError, "does not fit the network"),
        (lambda said: said["members"][1]["inputs"]["scale"].__setitem__(0, 10**400), NotReadyError, "must be a number"),
        (lambda said: said["members"][1]["network"]["model"].update(hidden=10**400), NotReadyError, "more than 20,000"),
        (lambda said: said["members"][1]["network"]["model"].update(width=10**400), NotReadyError, "does not fit"),
        (lambda said: said["members"][1]["network"]["model"].update(dropout=10**400), NotReadyError, "does not fit"),
        (lambda said: said.update(members=[]), NotReadyError, "0 members and 2 weights"),
        (lambda said: said["members"].pop(), NotReadyError, "1 members and 2 weights"),
        (lambda said: said["pooled"].update(weights=[1e300, 1.0]), NotReadyError, "must be a weight above 0"),
        (lambda said: said["pooled"].update(weights=[True, 0.5]), NotReadyError, "must be a weight above 0"),
        (lambda said: said["pooled"].update(weights=[0.9, 0.9]), NotReadyError, "weights sum to 1.8"),
        (lambda said: said["pooled"].update(temperature=0), NotReadyError, "must be a temperature"),
        (lambda said: said["pooled"].update(temperature=10**400), NotReadyError, "must be a temperature"),
        (lambda said: said["pooled"].update(member_temperatures=[1.0]), NotReadyError, "1 temperatures of 2"),
        (lambda said: said["pooled"].update(pooling="os.system"), NotReadyError, "pooling must be one of"),
        (lambda said: said["pooled"].update(pooling="stacked"), NotReadyError, "the file of coefficients belongs"),
        (lambda said: said["pooled"].update(stacked="../../etc/passwd"), NotReadyError, "must be a SHA-256, or null"),
        (
            lambda said: said["pooled"].update(pooling="stacked", stacked="0" * 64),
            NotReadyError,
            "stacked.safetensors cannot be used",
        ),
        (lambda said: said.update(kind="trial"), NotReadyError, "kind must be one of ensemble"),
        (lambda said: said.update(format=2), NotReadyError, "format must be one of 1"),
        (lambda said: said.pop("pooled"), NotReadyError, "lacks pooled"),
    ],
)
def test_a_model_of_a_stranger_runs_nothing_and_is_refused(
    model: Path, change: Callable[[dict[str, Any]], Any], error: type[Exception], why: str
) -> None:
    rewrite(model, change)
    with pytest.raises(error, match=why):
        load_ensemble(model / "data")


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"coefficients": torch.zeros(2, 10, 9), "intercept": torch.zeros(10)}, r"shape \[2, 10, 10\], got float32"),
        ({"coefficients": torch.zeros(2, 10, 10)}, r"finite intercept of the shape \[10\], got nothing"),
        ({"coefficients": torch.zeros(2, 10, 10), "intercept": torch.full((10,), torch.nan)}, "finite intercept"),
        ({"coefficients": torch.zeros(2, 10, 10, dtype=torch.int64), "intercept": torch.zeros(10)}, "got int64"),
        ({"coefficients": torch.zeros(2, 10, 10, dtype=torch.bfloat16), "intercept": torch.zeros(10)}, "cannot be"),
    ],
)
def test_coefficients_of_a_stranger_are_refused(model: Path, tensors: dict[str, torch.Tensor], why: str) -> None:
    import hashlib

    contents = checkpoint.pack(tensors, {"uid": NAME}, stamp=True)
    (model / "data" / "stacked.safetensors").write_bytes(contents)
    digest = hashlib.sha256(contents).hexdigest()
    rewrite(model, lambda said: said["pooled"].update(pooling="stacked", stacked=digest))
    with pytest.raises(NotReadyError, match=why):
        load_ensemble(model / "data")


def test_files_of_a_stranger_are_refused(model: Path) -> None:
    weights = model / "data" / member_file(1)
    contents = weights.read_bytes()
    weights.unlink()  # a second name of the trial's file: not to be written into
    weights.write_bytes(contents[:-1])
    with pytest.raises(NotReadyError, match=r"member-00001.safetensors cannot be used: it is not the file of which"):
        load_ensemble(model / "data")
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(NotReadyError, match="cannot be used"):
        load_ensemble(model / "data")


def pictures(tmp_path: Path) -> tuple[Sweep, list[Path]]:
    """Members that take photographs in two sizes, and the photographs of validation."""
    files = photographs(tmp_path / "pictures")["val"]
    net = {"_target_": "models.convnet.convnet", "stages": 1, "width": 4}
    data = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(tmp_path / "pictures")}
    configs = [config(data=data | {"image_size": size}, model=net, batch_size=4) for size in (16, 12)]
    return trained_sweep(tmp_path / "runs" / "pictures-0a1b2c3d", *configs), files


def test_each_member_sees_images_in_its_own_size(tmp_path: Path) -> None:
    sweep, files = pictures(tmp_path)
    write_ensemble(tmp_path / "model", members_of(sweep), BY_HAND["probabilities"][0], name=NAME, time_ms=TIME_MS)
    loaded = orchestrator.load_model(str(tmp_path / "model"))
    assert isinstance(loaded, EnsemblePredictor)
    assert [member.image_size for member in loaded.members] == [(16, 16), (12, 12)]
    found = loaded.predict(files)
    logits, _ = stored(sweep, "val")
    assert np.abs(found.probabilities - BY_HAND["probabilities"][1](logits)).max() < 1e-5
    assert all(one.resized_from in ((40, 30), (30, 40), (48, 64), (64, 48)) for one in found)
    assert loaded.predict(iter(files[:2])).labels == found.labels[:2]


def test_a_member_whose_preprocessing_is_kept_as_tensors(cache: str, tmp_path: Path) -> None:
    whiten = {"_target_": f"{OWN}.preprocess.whiten.whiten"}
    sweep = trained_sweep(tmp_path / "digits-0a1b2c3d", config(), config(seed=1, preprocess=whiten))
    write_ensemble(tmp_path / "model", members_of(sweep), BY_HAND["probabilities"][0], name=NAME, time_ms=TIME_MS)
    logits, ids = stored(sweep)
    found = load_ensemble(tmp_path / "model" / "data").predict(load(DIGITS).images[ids].transpose(0, 2, 3, 1))
    assert np.abs(found.probabilities - BY_HAND["probabilities"][1](logits)).max() < 1e-5


def test_it_warns_of_images_of_another_size_once(model: Path) -> None:
    loaded = load_ensemble(model / "data")
    with pytest.warns(ResizedWarning, match="1 of 1 images are not 8x8") as warned:
        assert loaded.predict(np.zeros((9, 9), np.uint8))[0].resized_from == (9, 9)
    assert len(warned) == 1
    with pytest.raises(ValueError, match="the list is empty"):
        loaded.predict([])
    with pytest.raises(TypeError, match=r"predict\(images\) takes files"):
        loaded(torch.zeros(1, 1, 8, 8))
    assert "EnsemblePredictor best-0a1b2c3d: 2 members, probabilities pooled" in repr(loaded)


def test_members_of_other_classes_are_no_ensemble(model: Path) -> None:
    one, other = load_ensemble(model / "data").members
    other.classes = other.classes[::-1]
    with pytest.raises(ValueError, match=r"digits-0a1b2c3d/1 has other classes than digits-0a1b2c3d/0"):
        EnsemblePredictor("best", [one, other], BY_HAND["logits"][0])


def compared(sweep: Sweep, name: str = NAME) -> Path:
    """The folder of a comparison of the sweep, with its winner."""
    folder = sweep.folder.parent / "comparisons" / name
    write_ensemble(folder / "model", members_of(sweep), BY_HAND["logits"][0], name=name, time_ms=TIME_MS)
    (folder / "comparison.json").write_text("{}")
    return folder


def test_load_model_takes_the_name_or_the_folder_of_a_comparison(sweep: Sweep) -> None:
    folder = compared(sweep)
    for name in (NAME, "best", str(folder), str(folder / "model")):
        loaded = orchestrator.load_model(name, runs_dir=sweep.folder.parent)
        assert isinstance(loaded, EnsemblePredictor)
        assert loaded.name == NAME
    compared(sweep, "digits-ffffffff")  # a sweep of the same name comes first
    assert not isinstance(orchestrator.load_model("digits", runs_dir=sweep.folder.parent), EnsemblePredictor)
    (folder / "model" / "MLmodel").unlink()
    with pytest.raises(NotReadyError, match="the comparison best-0a1b2c3d holds no model"):
        orchestrator.load_model("best", runs_dir=sweep.folder.parent)
    with pytest.raises(ConfigError, match="must be a sweep"):
        orchestrator.load_model("../comparisons", runs_dir=sweep.folder.parent / "comparisons")


def test_an_address_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for address in ("models:/", "models://evil/x", "runs:", "models:/a\nb"):
        with pytest.raises(ConfigError, match="is no address of a model"):
            orchestrator.load_model(address, runs_dir=tmp_path)


@pytest.mark.parametrize(
    ("address", "write"),
    [
        ("models:/best", "write  models:/best@champion  or a version, models:/best/1"),
        ("models:/my best/", "write  models:/my best@champion  or a version, models:/my best/1"),
        ("runs:/0a1b", "write  runs:/0a1b/model"),
    ],
)
def test_an_address_without_its_end_is_told_the_rest(address: str, write: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{write}$"):
        orchestrator.load_model(address, runs_dir=tmp_path)


@pytest.mark.slow
def test_it_loads_where_this_project_is_not_installed(sweep: Sweep, model: Path, tmp_path: Path) -> None:
    logits, ids = stored(sweep)
    np.save(tmp_path / "images.npy", load(DIGITS).images[ids].transpose(0, 2, 3, 1))
    command = [sys.executable, "-S", "-c", ELSEWHERE, str(SITE), str(model), str(tmp_path / "images.npy")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    assert np.abs(found - BY_HAND["probabilities"][1](logits)).max() < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # MLflow's own
def test_mlflow_loads_and_serves_it(model: Path, sweep: Sweep, tmp_path: Path) -> None:
    import mlflow

    logits, ids = stored(sweep)
    images = load(DIGITS).images[ids].transpose(0, 2, 3, 1)
    expected = BY_HAND["probabilities"][1](logits)
    loaded = mlflow.pyfunc.load_model(str(model))
    assert np.abs(loaded.predict(images).to_numpy() - expected).max() < 1e-5
    assert loaded.predict(loaded.input_example).to_numpy().sum() == pytest.approx(1)
    with serving(model, tmp_path) as (address, server, log):
        wait_for(f"{address}/ping", server, log)
        found = ask(address, {"inputs": images[:3].tolist()})
        assert np.abs(np.array([[row[name] for name in CLASSES] for row in found]) - expected[:3]).max() < 1e-5
