"""The winner of a comparison in MLflow's registry: its versions, its alias, and that it predicts from there."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.base.pooling import uniform
from orchestrator.cli import main
from orchestrator.ensembles.finishing import finish, keep
from orchestrator.ensembles.registering import Registered, check_name, register
from orchestrator.ensembles.shipping import read_shipping, recorded
from orchestrator.ensembles.winner import write_winner
from orchestrator.serving.pooled import load_ensemble
from orchestrator.training.data import load
from tests.chaos.server import Server, free_port
from tests.ensembles.recorded import comparison, kept
from tests.serving.trained import DIGITS, config, trained_sweep

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own

UID = "best-0a1b2c3d"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison of two trials, with its winner."""
    before = torch.get_num_threads()
    sweep = trained_sweep(tmp_path / "runs" / "digits-0a1b2c3d", config(), config(seed=1))
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)
    names = [f"{sweep.uid}/{place}" for place in (0, 1)]
    found = comparison(UID, [sweep.uid], names)
    made = kept(sweep.folder.parent, found)
    assert write_winner(made, names, uniform((3, 4)), time_ms=found["created_ms"]) == made / "model"
    return made


def test_members_without_weights_are_counted_and_the_first_named(folder: Path) -> None:
    runs_dir = folder.parent.parent
    names = [f"digits-0a1b2c3d/{place}" for place in (0, 1)]
    other = kept(runs_dir, comparison("other-00000001", ["digits-0a1b2c3d"], names))
    for index in (0, 1):
        (trial_folder(runs_dir / "digits-0a1b2c3d", index) / BEST).unlink()
    why = r"the weights of 2 of its 2 members are not there \(digits-0a1b2c3d/0, digits-0a1b2c3d/1: not kept: its configuration"
    with pytest.raises(NotReadyError, match=why):
        write_winner(other, names, uniform((0, 1)), time_ms=0)
    (trial_folder(runs_dir / "digits-0a1b2c3d", 1) / BEST).mkdir()
    with pytest.raises(NotReadyError, match=r"\(digits-0a1b2c3d/1: .*best.safetensors is no regular file\)"):
        write_winner(other, names[1:], uniform((1,)), time_ms=0)
    served = [f"served-0a1b2c3d/{place}" for place in range(5)]
    more = r"5 of its 5 members are not there \(served-0a1b2c3d/0, served-0a1b2c3d/1, served-0a1b2c3d/2 and 2 more: not in "
    with pytest.raises(NotReadyError, match=more):
        write_winner(other, served, uniform(tuple(range(5))), time_ms=0)
    assert not (other / "model").exists()
    assert load_ensemble(folder / "model" / "data").name == UID, "a model that was written has them"
    with pytest.raises(ConfigError, match="there is no such trial"):
        write_winner(other, ["digits-0a1b2c3d/9"], uniform((0,)), time_ms=0)


def test_weights_that_are_not_the_trials_own_make_no_model(folder: Path) -> None:
    runs_dir = folder.parent.parent
    names = [f"digits-0a1b2c3d/{place}" for place in (0, 1)]
    other = kept(runs_dir, comparison("other-00000001", ["digits-0a1b2c3d"], names))
    first, second = (trial_folder(runs_dir / "digits-0a1b2c3d", index) / BEST for index in (0, 1))
    contents = bytearray(first.read_bytes())
    contents[-1] ^= 1
    for wrong, why in ((second.read_bytes(), "it belongs to trial"), (bytes(contents), "do not match the SHA-256")):
        first.unlink()
        first.write_bytes(wrong)
        with pytest.raises(
            NotReadyError, match=rf"1 of its 2 members are not there \(digits-0a1b2c3d/0: damaged: .*{why}"
        ):
            write_winner(other, names, uniform((0, 1)), time_ms=0)
        assert not (other / "model").exists()


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "it's", "a\nb", " a", "x" * 201, 'a"b', "50%"])
def test_names_that_no_model_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the name of a registered model has 1 to 200 characters"):
        register(name, tmp_path)


@pytest.mark.parametrize("name", ["a", "digits of ten", "Ziffern-Größe_1.0", "x" * 200])
def test_names_that_one_can_have(name: str) -> None:
    check_name(name)


def test_without_a_model_nothing_is_registered(tmp_path: Path) -> None:
    folder = kept(tmp_path, comparison(UID, ["gone-00000000"], ["gone-00000000/0"]))
    with pytest.raises(NotReadyError, match="holds no model of the winner"):
        register("digits", folder)
    assert read_shipping(folder) is None


def images() -> np.ndarray:
    return np.array(load(DIGITS).images[:4].transpose(0, 2, 3, 1))


FRESH = """
import json, sys, mlflow, numpy, orchestrator
images = numpy.load(sys.argv[1])
print(json.dumps([
    mlflow.pyfunc.load_model("models:/digits@champion").predict(images).to_numpy().tolist(),
    orchestrator.load_model("models:/digits@champion").predict(images).probabilities.tolist(),
    orchestrator.load_model("models:/digits/1").predict(images).probabilities.tolist(),
]))
"""


def fresh(tmp_path: Path, uri: str) -> Any:
    np.save(tmp_path / "images.npy", images())
    command = [sys.executable, "-c", FRESH, str(tmp_path / "images.npy")]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_registered_in_the_store_of_the_runs_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs_dir = folder.parent.parent
    assert register("digits", folder) == Registered("1", None)
    assert register("digits", folder) == Registered("1", None, was_champion=True), "the same winner is the same version"
    assert register("others", folder) == Registered("1", None)
    expected = load_ensemble(folder / "model" / "data").predict(images()).probabilities
    Image.fromarray(images()[0, ..., 0]).save(tmp_path / "0.png")
    capsys.readouterr()
    assert main(["predict", "models:/digits@champion", str(tmp_path / "0.png"), "--runs-dir", str(runs_dir)]) == 0
    said = capsys.readouterr()
    assert str(expected[0].argmax()) in said.out.splitlines()[1].split()
    assert "Downloading" not in said.err, "no bar of progress of MLflow's"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert main(["predict", "models:/digits@other", str(tmp_path / "0.png"), "--runs-dir", str(runs_dir)]) == 2
    known = "known: models:/digits@champion, models:/digits/1"
    assert f"MODEL=models:/digits@other: MLflow has no such version; {known}" in capsys.readouterr().err
    assert main(["predict", "models:/digist@champion", str(tmp_path / "0.png"), "--runs-dir", str(runs_dir)]) == 2
    assert "MLflow has no registered model of that name; did you mean digits?" in capsys.readouterr().err
    (shown,) = runs_dir.glob("artifacts/*/*/artifacts/model/MLmodel")
    assert sorted(path.name for path in shown.parent.iterdir()) == sorted(
        path.name for path in (folder / "model").iterdir()
    ), "the store's own files are as they were shipped"
    found = fresh(tmp_path, f"sqlite:///{runs_dir}/mlflow.db")
    assert np.abs(found - expected).max() < 1e-5
    names = [f"digits-0a1b2c3d/{place}" for place in (0, 1)]
    later = kept(runs_dir, comparison("other-00000001", ["digits-0a1b2c3d"], names))
    write_winner(later, names, uniform((3, 4)), time_ms=1)
    moved = register("digits", later)
    assert moved == Registered("2", f"version 1 of comparison {UID}"), "that the alias has moved is told"
    assert moved.of("digits") == f"version 2 of digits; before, its champion was version 1 of comparison {UID}"


@pytest.mark.slow
def test_a_comparison_that_was_killed_after_its_record_is_made_up(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_dir = folder.parent.parent
    names = [f"digits-0a1b2c3d/{place}" for place in (0, 1)]
    found = comparison("cut-00000001", ["digits-0a1b2c3d"], names)
    made = keep(found, runs_dir, (), register="digits").parent
    Image.fromarray(images()[0, ..., 0]).save(tmp_path / "0.png")
    where = ["--runs-dir", str(runs_dir)]
    assert main(["predict", made.name, str(tmp_path / "0.png"), *where]) == 3
    said = capsys.readouterr().err
    assert "the comparison cut-00000001 holds no model: it was interrupted" in said
    assert main(shlex.split(said.partition("  orchestrator ")[2])) == 0
    out = capsys.readouterr().out
    assert f"page: {made / 'comparison.html'}" in out
    assert "cut-00000001 shipped; its winner is version 1 of digits" in out
    assert main(["predict", made.name, str(tmp_path / "0.png"), *where]) == 0
    assert main(["predict", "models:/digits@champion", str(tmp_path / "0.png"), *where]) == 0


@pytest.mark.slow
def test_a_model_that_could_not_be_made_is_told_and_sync_makes_it_later(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_dir = folder.parent.parent
    names = [f"digits-0a1b2c3d/{place}" for place in (0, 1)]
    weights = trial_folder(runs_dir / "digits-0a1b2c3d", 1) / BEST
    weights.rename(tmp_path / "aside")
    found = comparison("cut-00000001", ["digits-0a1b2c3d"], names)
    made = keep(found, runs_dir, (), register="digits").parent
    (made / "model" / "data").mkdir(parents=True)
    with pytest.raises(ConfigError, match="--register=digits: the winner cannot be kept as a model"):
        list(finish(found, made, (), register="digits"))
    assert not (made / "model").exists(), "half a model is removed"
    Image.fromarray(images()[0, ..., 0]).save(tmp_path / "0.png")
    predict = ["predict", made.name, str(tmp_path / "0.png"), "--runs-dir", str(runs_dir)]
    assert main(predict) == 3
    assert (
        "holds no model: the weights of 1 of its 2 members are not there (digits-0a1b2c3d/1" in capsys.readouterr().err
    )
    (tmp_path / "aside").rename(weights)
    assert main(["sync", made.name, "--runs-dir", str(runs_dir)]) == 0
    assert "version" not in capsys.readouterr().out, "what was refused is not registered behind one's back"
    assert main(predict) == 0


@pytest.mark.slow
def test_a_comparison_that_waited_does_not_take_the_alias_from_a_newer_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_dir = folder.parent.parent
    names = [f"digits-0a1b2c3d/{place}" for place in (0, 1)]
    newer = kept(
        runs_dir,
        comparison("newer-00000001", ["digits-0a1b2c3d"], names, created_ms=recorded(folder)["created_ms"] + 1),
    )
    write_winner(newer, names, uniform((3, 4)), time_ms=1)
    intent = {"format": 1, "uri": None, "register": "digits", "shipped": False}
    (folder / "shipping.json").write_text(json.dumps(intent))
    assert register("digits", newer) == Registered("1", None)
    for _ in range(2):
        assert main(["sync", UID, "--runs-dir", str(runs_dir)]) == 0
        stays = "version 2 of digits; its champion stays version 1 of comparison newer-00000001, which is newer"
        assert f"{UID} shipped; its winner is {stays}" in capsys.readouterr().out
    (newer / "shipping.json").write_text(json.dumps(intent))
    assert register("digits", folder).is_champion, "who asks for it now gets it"
    assert main(["sync", newer.name, "--runs-dir", str(runs_dir)]) == 0
    assert "version 1 of digits; before, its champion was version 2 of comparison best-" in capsys.readouterr().out


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    server.warm_up()
    yield server
    server.close()


@pytest.mark.slow
def test_registered_on_a_server_that_was_away(
    folder: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotReadyError, match=f"`orchestrator sync {UID} --runs-dir .*runs` ships it later"):
        register("digits", folder, f"http://127.0.0.1:{free_port()}")
    said = json.loads((folder / "shipping.json").read_text())
    (folder / "shipping.json").write_text(json.dumps(said | {"uri": server.uri}))
    assert main(["sync", UID, "--runs-dir", str(folder.parent.parent)]) == 0
    assert f"{UID} shipped; its winner is version 1 of digits" in capsys.readouterr().out
    expected = load_ensemble(folder / "model" / "data").predict(images()).probabilities
    assert np.abs(fresh(tmp_path, server.uri) - expected).max() < 1e-5
