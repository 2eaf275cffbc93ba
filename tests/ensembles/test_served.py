"""Sweeps of another machine: read from a real MLflow server, and equal to what their folders give."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator.base.errors import EXIT_NOT_READY, ConfigError, NotReadyError
from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.gathering import Gathered, gather
from orchestrator.ensembles.served import Server as Served
from orchestrator.verify import verify
from tests.chaos.server import Server, free_port
from tests.ensembles.finished import VAL, Made, finished_sweep, ship
from tests.serving.trained import config

pytestmark = pytest.mark.slow

TRIALS = [
    Made(value=0.95, params={"norm": "batch", "optimizer.lr": 0.1}, config_index=0),
    Made(value=0.91, params={"norm": "none", "optimizer.lr": 0.3}, config_index=1),
    Made(value=0.93, params={"norm": "batch", "optimizer.lr": 0.1}, config={"seed": 7}, config_index=0, repeat=1),
    Made(value=0.99, params={"norm": "batch", "optimizer.lr": 0.2}, state="stopped", config_index=2),
    Made(value=0.90, params={"norm": "layer", "optimizer.lr": 0.4}, config_index=3, recorded="ab" * 32),
    Made(value=0.90, params={"norm": "layer", "optimizer.lr": 0.4}, config_index=4, metrics={}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    server.warm_up()
    yield server
    server.close()


def shipped(folder: Path, server: Server, trials: list[Made], val: int = VAL) -> Path:
    tracking = {"kind": "server", "uri": server.uri, "experiment": folder.name.rsplit("-", 1)[0]}
    finished_sweep(folder, trials, tracking=tracking, val=val)
    ship(folder)
    return folder


def said(gathered: Gathered) -> list[tuple[object, ...]]:
    members = gathered.pool.members
    return [(one.name, one.value, one.architecture, one.configuration, dict(one.params)) for one in members]


def test_members_from_a_server_are_those_of_the_folder(tmp_path: Path, server: Server) -> None:
    here, elsewhere = tmp_path / "there", tmp_path / "here"
    shipped(here / "one-0a1b2c3d", server, TRIALS)
    shipped(here / "two-0a1b2c3d", server, [Made(value=0.97), Made(value=0.5, header={"fingerprint": "ff" * 32})])
    elsewhere.mkdir()
    names = ["one", "two-0a1b2c3d"]
    local, served = gather(names, here), gather(names, elsewhere, uri=server.uri)
    assert said(served) == said(local)
    assert [one.params for one in served.pool.members][1] == {"norm": "batch", "optimizer.lr": 0.1}
    assert set(served.left_out) == set(local.left_out)
    assert len(served.left_out) == 4
    assert np.array_equal(served.pool.logits_MNK, local.pool.logits_MNK)
    assert (served.fingerprint, served.pool.classes) == (local.fingerprint, local.pool.classes)
    assert [(one.uid, one.metric, one.mode, one.folder, one.uri) for one in served.sources] == [
        ("one-0a1b2c3d", "val/accuracy", "max", None, server.uri),
        ("two-0a1b2c3d", "val/accuracy", "max", None, server.uri),
    ]
    batch = "params.norm = 'batch' and metrics.`best/val_accuracy` < 0.94"
    with pytest.raises(ConfigError, match="and one can be a member"):
        gather(names, elsewhere, uri=server.uri, filter_string=batch)
    assert said(gather(["one"], elsewhere, uri=server.uri, filter_string="params.norm != 'layer'")) == said(local)[1:]
    with pytest.raises(ConfigError, match="did you mean two"):
        gather(["tow"], elsewhere, uri=server.uri)
    with pytest.raises(ConfigError, match="which 'one' names too"):
        gather(["one", "one-0a1b"], elsewhere, uri=server.uri)


def test_what_members_of_a_server_cost_is_worked_out_from_what_it_shows(tmp_path: Path, server: Server) -> None:
    from mlflow import MlflowClient

    wide = {"model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 10}}
    trials = [Made(config=config(), params={"norm": "none"}), Made(config=config() | wide, params={"model": "mlp"})]
    shipped(tmp_path / "there" / "priced-0a1b2c3d", server, trials)
    client = MlflowClient(server.uri)
    found = gather(["priced"], tmp_path / "here", uri=server.uri).pool.members
    assert {one.unpriced for one in found} == {"nothing says how large its images are"}
    (run,) = client.search_runs(
        [one.experiment_id for one in client.search_experiments()],
        "tags.kind = 'sweep' and tags.sweep_uid LIKE 'priced%'",
    )
    inputs = {
        "dtype": "uint8",
        "channels": 1,
        "height": 8,
        "width": 8,
        "scale": None,
        "shift": None,
        "classes": list("abc"),
    }
    client.log_text(run.info.run_id, json.dumps({"inputs": inputs}), "model/data/model.json")
    found = gather(["priced"], tmp_path / "here", uri=server.uri).pool.members
    assert [one.unpriced for one in found] == [None, None]
    assert {one.name[-1]: (one.parameters, one.multiply_adds) for one in found} == {
        "0": (64 * 24 + 24 + 24 * 3 + 3, 67 * 24),
        "1": (64 * 10 + 10 + 10 * 3 + 3, 67 * 10),
    }
    client.log_text(run.info.run_id, "{" * 10_000, "model/data/model.json")
    found = gather(["priced"], tmp_path / "here", uri=server.uri).pool.members
    assert [one.multiply_adds for one in found] == [None, None]


def test_what_was_brought_is_read_when_the_server_is_gone(tmp_path: Path, server: Server) -> None:
    folder = shipped(tmp_path / "there" / "three-0a1b2c3d", server, TRIALS)
    known, gathered = Served(server.uri), gather(["three"], tmp_path / "here", uri=server.uri)
    names = [member.name for member in gathered.pool.members]
    expected = gather(["three"], tmp_path / "there").read_test(names)
    (trial_folder(folder, 0) / PREDICTIONS).unlink()
    server.kill()
    try:
        for found, right in zip(gathered.read_test(names), expected, strict=True):
            assert np.array_equal(found, right)
        _is_away(known)
    finally:
        server.start()


def _is_away(known: Served) -> None:
    with pytest.raises(NotReadyError, match="try again when the server answers") as caught:
        known.trials_of("three-0a1b2c3d")
    assert caught.value.exit_code == EXIT_NOT_READY


def test_a_run_whose_artifacts_cannot_be_had_is_left_out(tmp_path: Path, server: Server) -> None:
    shipped(tmp_path / "there" / "lost-0a1b2c3d", server, [Made(value=0.9 - place / 100) for place in range(5)])
    elsewhere = {
        "lost-0a1b2c3d/0": "foo://x",
        "lost-0a1b2c3d/1": "file:///nowhere",
        "lost-0a1b2c3d/2": "http://127.0.0.1:9/",
    }
    with contextlib.closing(sqlite3.connect(server.database)) as database, database:
        for name, uri in elsewhere.items():
            run = "SELECT run_uuid FROM tags WHERE key = 'trial_uid' AND value = ?"
            database.execute(f"UPDATE runs SET artifact_uri = ? WHERE run_uuid = ({run})", (uri, name))
    gathered = gather(["lost"], tmp_path / "here", uri=server.uri)
    assert [member.name for member in gathered.pool.members] == ["lost-0a1b2c3d/3", "lost-0a1b2c3d/4"]
    reasons = {out.name: out.reason for out in gathered.left_out}
    assert reasons.keys() == elsewhere.keys()
    assert "cannot be brought" in reasons["lost-0a1b2c3d/0"]
    assert "the server has no predictions" in reasons["lost-0a1b2c3d/1"]
    assert "cannot be brought" in reasons["lost-0a1b2c3d/2"]


def test_a_sweep_whose_folder_is_here_is_read_there(tmp_path: Path, server: Server) -> None:
    shipped(tmp_path / "there" / "two-0a1b2c3d", server, [Made(value=0.9)])
    finished_sweep(tmp_path / "here" / "one-0a1b2c3d", [Made(value=0.8)])
    gathered = gather(["one-0a1b2c3d", "two-0a1b2c3d"], tmp_path / "here", uri=server.uri)
    assert [(source.uid, source.folder is None) for source in gathered.sources] == [
        ("one-0a1b2c3d", False),
        ("two-0a1b2c3d", True),
    ]
    assert [member.name for member in gathered.pool.members] == ["two-0a1b2c3d/0", "one-0a1b2c3d/0"]


def test_a_short_name_means_the_folder_too_and_its_journal_counts_the_look(tmp_path: Path, server: Server) -> None:
    trials = [Made(skill=1.0), Made(skill=1.0)]
    folder = shipped(tmp_path / "here-0a1b2c3d", server, trials, val=60)
    for uri, seed, look in ((server.uri, 1, 1), (None, 1, 1), (None, 2, 2)):
        gathered = gather(["here"], tmp_path, uri=uri)
        found = compare(gathered, methods=["mean"], seed=seed, resamples=100)
        assert (gathered.sources[0].folder, found["sweeps"][0]["look"]) == (folder, look)


def test_looks_at_a_sweep_of_a_server_are_counted_there(tmp_path: Path, server: Server) -> None:
    folder = shipped(tmp_path / "there" / "seen-0a1b2c3d", server, [Made(skill=1.0), Made(skill=1.0)], val=60)
    before: list[str] = []
    verify(folder, say=before.append)
    for seed, look in ((1, 1), (1, 1), (2, 2)):
        gathered = gather(["seen"], tmp_path / "here", uri=server.uri)
        found = compare(gathered, methods=["mean"], seed=seed, resamples=100)
        assert [sweep["look"] for sweep in found["sweeps"]] == [look]
    after: list[str] = []
    verify(folder, say=after.append)
    assert after == before, "the notes on its run are nothing that verify minds"
    server.kill()
    try:
        (sweep,) = compare(gathered, methods=["mean"], seed=3, resamples=100)["sweeps"]
    finally:
        server.start()
    assert sweep["look"] == 0, "a server that is away keeps nobody from the comparison, and counts nothing"


def test_a_server_that_is_away_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="try again when the server answers") as caught:
        gather(["one"], tmp_path, uri=f"http://127.0.0.1:{free_port()}")
    assert caught.value.exit_code == EXIT_NOT_READY
