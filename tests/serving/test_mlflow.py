"""A served model by MLflow's own means: what its `save_model` writes, its `load_model`, its server."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import orchestrator
from orchestrator.serving.archive import write_archive
from orchestrator.training.data import load
from tests.serving.test_mlmodel import model_of
from tests.serving.trained import DIGITS, OWN, config, photographs, trained_sweep
from tests.synthetic import Sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # MLflow's own
]

SITE = Path(np.__file__).parents[1]
STARTS_WITHIN_S = 180


@pytest.fixture(scope="module")
def sweep(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    os.environ["ORCHESTRATOR_CACHE"] = cache
    before = torch.get_num_threads()
    yield trained_sweep(tmp_path_factory.mktemp("runs") / "digits-0a1b2c3d", config(epochs=3))
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def model(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(sweep, tmp_path_factory.mktemp("model"))


def digits() -> np.ndarray:
    """[N, H, W, 1]"""
    return np.array(load(DIGITS).images[:4].transpose(0, 2, 3, 1))


def test_the_files_are_those_that_mlflow_writes(model: Path, tmp_path: Path) -> None:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

    ours = yaml.safe_load((model / "MLmodel").read_text())
    write_archive(tmp_path / "orchestrator.zip")
    mlflow.pyfunc.save_model(
        str(tmp_path / "theirs"),
        loader_module="orchestrator.serving.pyfunc",
        data_path=str(model / "data"),
        code_paths=[str(tmp_path / "orchestrator.zip")],
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype("O"), (-1,), "image")]), Schema([ColSpec("double", str(n)) for n in range(10)])
        ),
        input_example=pd.DataFrame(**json.loads((model / "input_example.json").read_text())),
        pip_requirements=(model / "requirements.txt").read_text().split()[1:],
        metadata=ours["metadata"],
    )
    theirs = yaml.safe_load((tmp_path / "theirs" / "MLmodel").read_text())
    for said in (ours, theirs):
        said["signature"] = {key: value and json.loads(value) for key, value in said["signature"].items()}
        said.pop("utc_time_created")
        assert len(said.pop("model_uuid")) == 32
    flavor, expected = ours["flavors"]["python_function"], theirs["flavors"]["python_function"]
    # the archive itself goes on Python's path, not the folder that it lies in
    assert (flavor.pop("code"), expected.pop("code")) == ("code/orchestrator.zip", "code")
    assert (flavor.pop("data"), expected.pop("data")) == ("data", "data/data")
    assert ours == theirs
    for name in (
        "requirements.txt",
        "conda.yaml",
        "python_env.yaml",
        "input_example.json",
        "serving_input_example.json",
    ):
        read = yaml.safe_load
        assert read((model / name).read_text()) == read((tmp_path / "theirs" / name).read_text()), name


def test_mlflow_loads_it(sweep: Sweep, model: Path) -> None:
    import mlflow

    expected = orchestrator.load_model(sweep.uid, runs_dir=sweep.folder.parent).predict(digits()).probabilities
    loaded = mlflow.pyfunc.load_model(str(model))
    assert np.array_equal(loaded.predict(digits()).to_numpy(), expected)
    example = loaded.input_example
    (row,) = loaded.predict(example).to_numpy()
    assert row.sum() == pytest.approx(1)
    with pytest.raises(TypeError, match="predict wants pixels as they are in a file"):
        loaded.predict(digits() / 255)


def test_of_a_run_it_is_loaded_by_the_runs_address(model: Path, tmp_path: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("digits", artifact_location=(tmp_path / "artifacts").as_uri())
        run = client.create_run(experiment).info.run_id
        client.log_artifacts(run, str(model), "model")
        loaded = mlflow.pyfunc.load_model(f"runs:/{run}/model")
        assert loaded.predict(digits()).shape == (4, 10)
    finally:
        mlflow.set_tracking_uri(before)


ELSEWHERE = """
import sys
sys.path.append(sys.argv[1])  # without the .pth files of the folder, of which one is this project's
try:
    import orchestrator
    raise SystemExit("it is installed")
except ImportError:
    pass
import mlflow, numpy
print(mlflow.pyfunc.load_model(sys.argv[2]).predict(numpy.load(sys.argv[3])).to_json(orient="values", double_precision=15))
import orchestrator, models
assert sys.argv[2] in orchestrator.__file__ and sys.argv[2] in models.__file__
"""


def test_it_loads_where_this_project_is_not_installed(model: Path, tmp_path: Path) -> None:
    import mlflow

    np.save(tmp_path / "images.npy", digits())
    command = [sys.executable, "-S", "-c", ELSEWHERE, str(SITE), str(model), str(tmp_path / "images.npy")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    expected = mlflow.pyfunc.load_model(str(model)).predict(digits()).to_numpy()
    assert np.abs(np.array(json.loads(done.stdout.splitlines()[-1])) - expected).max() < 1e-12


def test_the_server_classifies_image_files(cache: str, tmp_path: Path) -> None:
    os.environ["ORCHESTRATOR_CACHE"] = cache
    files = photographs(tmp_path / "pictures")["val"]
    data = {"_target_": f"{OWN}.data.folder.image_folder", "root": str(tmp_path / "pictures"), "image_size": 16}
    net = {"_target_": "models.convnet.convnet", "stages": 2, "width": 4}
    sweep = trained_sweep(tmp_path / "pictures-0a1b2c3d", config(data=data, model=net, epochs=3, batch_size=4))
    expected = orchestrator.load_model(sweep.uid, runs_dir=tmp_path).predict(files)
    with serving(model_of(sweep, tmp_path), tmp_path) as (address, server, log):
        wait_for(f"{address}/ping", server, log)
        records = [{"image": base64.b64encode(path.read_bytes()).decode()} for path in files]
        found = ask(address, {"dataframe_records": records})
        assert [max(row, key=row.get) for row in found] == expected.labels
        assert np.allclose(pd.DataFrame(found).to_numpy(), expected.probabilities, atol=1e-6)
        assert ask(address, {"inputs": [record["image"] for record in records]}) == found
        pixels = np.array([np.asarray(Image.open(path).convert("RGB").resize((16, 16))) for path in files])
        (row,) = ask(address, {"inputs": pixels[:1].tolist()})
        assert row == pytest.approx(orchestrator.load_model(sweep.uid, tmp_path).predict(pixels[:1])[0].probabilities)
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            ask(address, {"inputs": (pixels[:1] / 255).tolist()})
        assert "predict wants pixels as they are in a file" in refused.value.read().decode()


@contextlib.contextmanager
def serving(model: Path, folder: Path) -> Iterator[tuple[str, subprocess.Popen[Any], Path]]:
    """MLflow's server of a model: its address, which `wait_for` waits for, its process and its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-h", "127.0.0.1"]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = folder / "server.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*command, "-p", str(port), "-m", str(model)],
            env=environment, stdout=out, stderr=out, cwd=folder, start_new_session=True,
        ) as server,
    ):  # fmt: skip
        try:
            yield f"http://127.0.0.1:{port}", server, log
        finally:
            os.killpg(server.pid, 15)


def wait_for(address: str, server: subprocess.Popen[Any], log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


def ask(address: str, what: Any) -> Any:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(what).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]
