"""The files of a served model, and what is refused of a folder that a stranger changed; MLflow itself is in `test_mlflow.py`."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import orchestrator
from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.journal.record import read_sweep
from orchestrator.serving.mlmodel import write_model
from orchestrator.serving.pyfunc import DESCRIPTION, ImageClassifier, _load_pyfunc, load_folder, stamp
from orchestrator.training import checkpoint
from orchestrator.training.data import load
from tests.serving.trained import DIGITS, OWN, STANDARDIZE, config, stored_predictions, trained_sweep
from tests.synthetic import Sweep


@pytest.fixture(scope="module")
def sweep(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    os.environ["ORCHESTRATOR_CACHE"] = cache
    before = torch.get_num_threads()
    made = trained_sweep(tmp_path_factory.mktemp("runs") / "digits-0a1b2c3d", config(), config(seed=1, epochs=2))
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)
    return made


def model_of(sweep: Sweep, to: Path) -> Path:
    """The model's folder as a store shows it."""
    for name, path in write_model(sweep.folder, read_sweep(sweep.folder), to / "written"):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to / name)
    return to / "model"


@pytest.fixture
def model(sweep: Sweep, tmp_path: Path) -> Path:
    return model_of(sweep, tmp_path)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """[N, H, W, 1]"""
    return np.array(load(DIGITS).images[:5].transpose(0, 2, 3, 1))


def test_the_files_of_a_model(sweep: Sweep, tmp_path: Path) -> None:
    record = read_sweep(sweep.folder)
    files = dict(write_model(sweep.folder, record, tmp_path / "one"))
    assert record.scores is not None
    assert record.scores.best is not None
    (best,) = record.scores.best.trials
    assert files.pop(f"model/data/{BEST}") == trial_folder(sweep.folder, best) / BEST, "the file that the trial keeps"
    assert sorted(files) == [
        "model/MLmodel",
        "model/README.md",
        "model/code/orchestrator.zip",
        "model/conda.yaml",
        f"model/data/{DESCRIPTION}",
        "model/input_example.json",
        "model/python_env.yaml",
        "model/requirements.txt",
        "model/serving_input_example.json",
    ]
    assert all(path == tmp_path / "one" / name.removeprefix("model/") for name, path in files.items())
    again = dict(write_model(sweep.folder, record, tmp_path / "two"))
    assert all(path.read_bytes() == again[name].read_bytes() for name, path in files.items()), "the same to the byte"
    said = yaml.safe_load(files["model/MLmodel"].read_text())
    (image,) = json.loads(said["signature"]["inputs"])
    assert image["name"] == "image"
    assert [column["name"] for column in json.loads(said["signature"]["outputs"])] == list("0123456789")


def test_it_is_written_without_heavy_libraries(sweep: Sweep, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from orchestrator.journal.record import read_sweep
from orchestrator.serving.mlmodel import write_model
folder = Path(sys.argv[1])
assert write_model(folder, read_sweep(folder), Path(sys.argv[2]))
print([name for name in ("torch", "mlflow", "pandas", "numpy", "PIL", "ray", "hydra") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(sweep.folder), str(tmp_path / "model")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_is_written_where_there_is_nothing_to_serve(tmp_path: Path) -> None:
    empty = trained_sweep(tmp_path / "empty-0a1b2c3d")
    assert write_model(empty.folder, read_sweep(empty.folder), tmp_path / "model") == []
    sweep = trained_sweep(tmp_path / "digits-0a1b2c3d", config())
    best = trial_folder(sweep.folder, 0) / BEST
    found = checkpoint.load(best, uid=None)
    older = {key: value for key, value in found.state.items() if key != "inputs"}
    for contents in (checkpoint.pack(found.tensors, older, stamp=True), b"", b"\xff" * 100):
        best.write_bytes(contents)
        assert write_model(sweep.folder, read_sweep(sweep.folder), tmp_path / "model") == []
    best.unlink()
    assert write_model(sweep.folder, read_sweep(sweep.folder), tmp_path / "model") == []
    assert not (tmp_path / "model").exists()


def test_the_model_says_what_the_predictor_says(sweep: Sweep, model: Path, images: np.ndarray) -> None:
    expected = orchestrator.load_model("digits", runs_dir=sweep.folder.parent).predict(images)
    found = _load_pyfunc(str(model / "data")).predict(images)
    assert list(found.columns) == list("0123456789")
    assert np.array_equal(found.to_numpy(), expected.probabilities)


@pytest.mark.parametrize("name", ["mean_image", "whiten"])
def test_preprocessing_that_is_kept_as_tensors_is_applied(tmp_path: Path, name: str) -> None:
    one = config(preprocess={"_target_": f"{OWN}.preprocess.{name}.{name}", "offset": 0.5})
    sweep = trained_sweep(tmp_path / "digits-0a1b2c3d", one)
    expected, ids, _ = stored_predictions(sweep)
    found = _load_pyfunc(str(model_of(sweep, tmp_path) / "data")).predict(np.array(load(DIGITS).images[ids][:, 0]))
    assert np.abs(found.to_numpy() - expected).max() < 1e-5


def test_preprocessing_of_other_images_is_refused(tmp_path: Path) -> None:
    sweep = trained_sweep(tmp_path / "digits-0a1b2c3d", config(preprocess={"_target_": f"{OWN}.preprocess.pca.pca"}))
    best = trial_folder(sweep.folder, 0) / BEST
    loaded = checkpoint.load(best, uid=None)
    tensors = {key: one for key, one in loaded.tensors.items() if key != "inputs/matrix"}
    best.write_bytes(checkpoint.pack(tensors, loaded.state, stamp=True))
    with pytest.raises(NotReadyError, match=r"inputs/matrix must be float32 \[64, 64\] for its images, got nothing"):
        _load_pyfunc(str(model_of(sweep, tmp_path) / "data"))


def encoded(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda images: images,
    "named": lambda images: {"image": images},
    "objects": lambda images: {"image": images.astype(object)},
    "base64": lambda images: {"image": np.array(list(map(encoded, images)), dtype=object)},
    "base64 in lines": lambda images: {
        "image": np.array([encoded(one)[:20] + "\n" + encoded(one)[20:] for one in images])
    },
    "data addresses": lambda images: pd.DataFrame(
        {"image": [f"data:image/png;base64,{encoded(one)}" for one in images]}
    ),
    "bytes": lambda images: pd.DataFrame({"image": [base64.b64decode(encoded(one)) for one in images]}),
    "lists": lambda images: pd.DataFrame({"image": images.tolist()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_which_mlflow_hands_on_images(model: Path, images: np.ndarray, form: str) -> None:
    classifier = ImageClassifier(load_folder(model / "data"))
    assert np.allclose(classifier.predict(FORMS[form](images)), classifier.predict(images), atol=1e-12)


@pytest.mark.parametrize(
    ("given", "error", "why"),
    [
        (
            {"picture": np.zeros((1, 8, 8, 1), np.uint8)},
            ValueError,
            r"looked for in the column image; got \['picture'\]",
        ),
        ({"image": np.array(["/etc/hostname"])}, ValueError, "not base64 of an image file .a path is not opened here"),
        ({"image": np.array(["c2VjcmV0"])}, ValueError, "image 0 is not an image of a known format"),
        ({"image": np.full((1, 8, 8, 1), 0.5).astype(object)}, TypeError, "holds float64: predict wants pixels"),
        ({"image": np.full((1, 8, 8, 1), 256).astype(object)}, ValueError, "whole numbers outside of 0 to 255"),
        (pd.DataFrame({"image": [[[0, 1], [2]]]}), ValueError, "image 0 has rows of different lengths"),
    ],
)
def test_what_is_no_image_is_refused(model: Path, given: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        _load_pyfunc(str(model / "data")).predict(given)


def rewrite(model: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The description as a stranger writes it, with a stamp that fits."""
    path = model / "data" / DESCRIPTION
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said | {"sha256": stamp(said)}))


def test_a_description_that_was_changed_is_refused(model: Path) -> None:
    path = model / "data" / DESCRIPTION
    path.write_text(path.read_text().replace('"crops": false', '"crops": true'))
    with pytest.raises(NotReadyError, match="was changed since it was written"):
        _load_pyfunc(str(model / "data"))


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        (lambda said: said["network"]["model"].update(_target_="os.system"), ConfigError, "os.system"),
        (
            lambda said: said["network"]["model"].update(_target_="orchestrator.cli.main"),
            ConfigError,
            "catalogue names",
        ),
        (lambda said: said["network"]["norm"].update(_target_="os.path.join"), ConfigError, "os.path.join"),
        (lambda said: said["network"]["model"].update(width=25), NotReadyError, "does not fit the network"),
        (lambda said: said["network"]["model"].update(width="a lot"), ConfigError, "width=a lot: must be an integer"),
        (
            lambda said: said["network"]["model"].update(width=10**15),
            NotReadyError,
            "the network's is .1000000000000000",
        ),
        (lambda said: said["inputs"].update(classes=["a", "b"]), NotReadyError, "does not fit the network"),
        (lambda said: said["inputs"].update(classes="ab"), NotReadyError, "inputs.classes must be a list"),
        (lambda said: said["inputs"].update(scale=None, shift=None), NotReadyError, "inputs.scale must be there"),
        (
            lambda said: said["inputs"].update(scale=[1.0, 1.0], shift=[0.0, 0.0]),
            NotReadyError,
            "for each of 1 channels",
        ),
        (lambda said: said["inputs"].update(height=0), NotReadyError, "at least one channel, row"),
        (lambda said: said["inputs"].update(height=10**9), NotReadyError, "images of at most"),
        (lambda said: said["inputs"].update(height=10**4), NotReadyError, "does not fit the network"),
        (lambda said: said.update(weights="0" * 64), NotReadyError, "not the file of which the model was made"),
        (lambda said: said.update(format=2), NotReadyError, "format must be one of 1"),
        (lambda said: said.pop("network"), NotReadyError, "lacks network"),
    ],
)
def test_a_model_of_a_stranger_runs_nothing_and_is_refused(
    model: Path, change: Callable[[dict[str, Any]], Any], error: type[Exception], why: str
) -> None:
    rewrite(model, change)
    with pytest.raises(error, match=why):
        _load_pyfunc(str(model / "data"))


def test_files_of_a_stranger_are_refused(model: Path) -> None:
    weights = model / "data" / BEST
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(NotReadyError, match=f"{BEST} cannot be used: it is not the file of which"):
        _load_pyfunc(str(model / "data"))
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(NotReadyError, match="cannot be used"):
        _load_pyfunc(str(model / "data"))
    for text in ("", "[]", "{", '{"format": NaN}', "[" * 100_000):
        (model / "data" / DESCRIPTION).write_text(text)
        with pytest.raises(NotReadyError, match="is not the description of a model"):
            _load_pyfunc(str(model / "data"))
    (model / "data" / DESCRIPTION).unlink()
    with pytest.raises(NotReadyError, match="cannot be read"):
        _load_pyfunc(str(model / "data"))


def test_code_of_the_users_own_stays_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "net_of_serving.py").write_text(
        "from torch import nn\n"
        "def net(*, num_classes: int, in_channels: int, image_size: tuple[int, int]):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size[0] * image_size[1], num_classes))\n"
    )
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"allowed_targets: [net_of_serving]\nimport_paths: [{mine}]\n")
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(settings))
    from orchestrator.base.rights import granted
    from orchestrator.config.rights import read_user_rights

    with granted(read_user_rights()):
        own = config(model={"_target_": "net_of_serving.net"}, allowed_targets=["net_of_serving"])
        sweep = trained_sweep(tmp_path / "own-0a1b2c3d", own | {"preprocess": STANDARDIZE})
    model = model_of(sweep, tmp_path)
    assert _load_pyfunc(str(model / "data")).predict(np.zeros((1, 8, 8), np.uint8)).shape == (1, 10)
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(tmp_path / "none.yaml"))
    with pytest.raises(
        ConfigError, match=r"uses net_of_serving.net, .*allowed_targets: \['net_of_serving.net'\] to your settings"
    ):
        _load_pyfunc(str(model / "data"))
    assert not any("net_of_serving" in path.read_text(errors="replace") for path in model.rglob("*.py"))
