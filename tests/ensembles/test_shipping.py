"""A comparison in MLflow: its runs, what is kept where the store is away, and that a sweep's commands are not confused."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.locks import hold
from orchestrator.cli import main
from orchestrator.ensembles.runs import writes
from orchestrator.ensembles.shipping import read_shipping, recorded, ship, ship_waiting, waiting
from orchestrator.journal.finding import sweeps_in
from orchestrator.journal.publishing import publish
from orchestrator.verify import verify
from tests.chaos.server import Server, free_port
from tests.ensembles.recorded import CREATED_MS, comparison, kept, row

UID = "best-0a1b2c3d"
SWEEP = "digits-0a1b2c3d"
pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own

METHODS = 12
NAMES = [f"{SWEEP}/0", f"{SWEEP}/1"]


def test_the_runs_of_a_comparison(tmp_path: Path) -> None:
    found = comparison(UID, [SWEEP], NAMES)
    folder = kept(tmp_path, found)
    (folder / "model" / "data").mkdir(parents=True)
    (folder / "model" / "MLmodel").write_text("flavors: {}")
    (folder / "model" / "data" / "model.json").write_text("{}")
    (folder / "model" / "data" / "link").symlink_to("/etc/passwd")
    whole, (mean, single) = writes(found, folder)
    assert whole.tags.items() >= {
        "kind": "comparison", "comparison_uid": UID, "sweeps": SWEEP, "winner": "mean"
    }.items()  # fmt: skip
    assert [artifact.name for artifact in whole.artifacts] == ["table.md", "comparison.json", "comparison.html"]
    assert whole.params == {"command": f"orchestrator compare {SWEEP}", "filter": "null", "seed": "1", "budget": "3"}
    assert mean.uid == f"{UID}/mean"
    assert mean.tags.items() >= {
        "kind": "ensemble", "ensemble_uid": f"{UID}/mean", "members": ", ".join(NAMES), "winner": "true", "in_set": "true"
    }.items()  # fmt: skip
    assert single.tags["members"] == NAMES[0]
    numbers = {metric.key: metric.value for metric in mean.metrics}
    others = {"top5_error": 0.0, "brier": 0.1, "ece": 0.01, "classwise_ece": 0.02}
    assert numbers == pytest.approx(
        {
            "members": 2,
            "val/accuracy": 0.92,
            "val/nll": 0.08,
            **{f"{split}/{key}": value for split in ("val", "test") for key, value in others.items()},
            "test/accuracy": 0.93,
            "test/accuracy_low": 0.92,
            "test/accuracy_high": 0.94,
            "test/nll": 0.07,
            "gain/accuracy": 0.03,
            "gain/accuracy_low": 0.02,
            "gain/accuracy_high": 0.04,
            "gain/over_mean": 0.02,
            "gain/nll": 0.0,
            "gain/nll_low": -0.01,
            "gain/nll_high": 0.01,
            "p_value": 0.03,
            "p_holm": 0.06,
            "parameters": 1000,
            "disagreement": 0.1,
            "kl": 0.2,
        }
    )
    assert {metric.time_ms for metric in mean.metrics} == {CREATED_MS}
    assert [a.name for a in mean.artifacts] == ["ensemble.json", "model/MLmodel", "model/data/model.json"]
    assert [a.name for a in single.artifacts] == ["ensemble.json"]
    table = whole.artifacts[0].text
    assert table is not None
    assert (
        "| `mean` (winner) | 2 | 92.00 % | 93.00 % [92.00, 94.00] | 3.00 points [2.00, 4.00] | 0.06 | 0.0700 |" in table
    )


def test_whatever_a_record_holds_fits_a_store(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>|`\n# x'
    names = [f"digits-0a1b2c3d/{place}" for place in range(1000)]
    found = comparison(
        UID,
        [SWEEP],
        names,
        settings={evil: "v" * 10_000},
        rows=[row(evil, list(range(1000)), 0.9, described=evil * 1000, p_value=float("nan"), parameters=10**400)],
        winner=evil,
    )
    whole, (one,) = writes(found, kept(tmp_path, found))
    for write in (whole, one):
        assert all(len(text) <= 8000 for text in write.tags.values())
        assert all(len(text) <= 6000 for text in write.params.values())
        assert all(re.fullmatch(r"[\w\-. :/]+", key) for key in write.params)
    assert re.search(r"digits-0a1b2c3d/\d+ and \d+ more$", one.tags["members"])
    shown = one.tags["members"].split(" and ")
    assert len(shown[0].split(", ")) + int(shown[1].split()[0]) == 1000
    assert not {"p_value", "parameters"} & {metric.key for metric in one.metrics}
    assert "<script" not in one.tags["mlflow.note.content"]
    assert len((whole.artifacts[0].text or "").splitlines()) == 5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found.update(uid="other-00000000"), "is of the comparison other-00000000; give the folder"),
        (lambda found: found["rows"][0].update(members=[0, 2]), r"rows\[0\].members names members that are not there"),
        (lambda found: found.update(sweeps=[]), "sweeps names no sweep"),
        (lambda found: found["rows"][0].pop("method"), r"rows\[0\] lacks method"),
        (lambda found: found.update(members="ab"), "members must be a list"),
        (lambda found: found.update(created_ms="now"), "created_ms must be milliseconds"),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, change: Callable[[Any], Any], why: str) -> None:
    found = comparison(UID, [SWEEP], NAMES)
    change(found)
    folder = kept(tmp_path, found)
    folder = folder.rename(folder.parent / UID)
    with pytest.raises(NotReadyError, match=why):
        recorded(folder)


def test_what_says_where_to_ship_is_checked(tmp_path: Path) -> None:
    folder = kept(tmp_path, comparison(UID, [SWEEP], NAMES))
    assert read_shipping(folder) is None
    for text in ("[]", "{", '{"format": 1, "uri": 7, "register": null, "shipped": false}'):
        (folder / "shipping.json").write_text(text)
        with pytest.raises(NotReadyError, match=r"shipping.json cannot be used .*; remove it"):
            ship_waiting(folder)


def test_one_process_ships_a_comparison(tmp_path: Path) -> None:
    """Nor does a folder that another process ships."""
    folder = kept(tmp_path / "runs", found := comparison(UID, [SWEEP], NAMES))
    with hold(folder / "shipping.lock", "ships it"), pytest.raises(RunningElsewhereError, match="ships it already"):
        ship(found, folder, "http://127.0.0.1:9")
    assert read_shipping(folder) is None


def runs_of(database: Path) -> dict[str, dict[str, str]]:
    """Name -> tags of each active run in a store that is of a comparison."""
    db = sqlite3.connect(database)
    rows = db.execute(
        "SELECT r.name, r.status, t.key, t.value FROM runs r JOIN tags t USING (run_uuid) WHERE r.lifecycle_stage = 'active'"
    ).fetchall()
    db.close()
    found: dict[str, dict[str, str]] = {}
    for name, status, key, value in rows:
        found.setdefault(name, {"status": status})[key] = value
    return {name: tags for name, tags in found.items() if tags.get("kind") in ("comparison", "ensemble")}


@pytest.mark.slow
def test_shipped_beside_its_sweep_it_confuses_nothing(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["launch", "name=small", "trials=2", "epochs=1", "data=synthetic", "model=mlp"]) == 0
    runs_dir = tmp_path / "runs"
    (sweep,) = sweeps_in(runs_dir)
    found = comparison(UID, [sweep.name], [f"{sweep.name}/0", f"{sweep.name}/1"])
    folder = kept(runs_dir, found)
    publish(sweep, UID, "comparison", "mean over 2 members was chosen")
    assert ship(found, folder) == f"{UID} shipped with 2 ensembles"
    database = runs_dir / "mlflow.db"
    shipped = runs_of(database)
    assert sorted(shipped) == ["best-0a1b2c3d", "best_single", "mean"]
    assert {tags["status"] for tags in shipped.values()} == {"FINISHED"}
    assert not any("sweep_uid" in tags for tags in shipped.values())
    assert len({tags["mlflow.parentRunId"] for name, tags in shipped.items() if name != UID}) == 1
    (shown,) = runs_dir.glob("artifacts/*/*/artifacts/comparison.html")
    assert shown.read_text() == (folder / "comparison.html").read_text()
    dump = rows(database)
    assert ship(found, folder) == f"{UID} shipped with 2 ensembles"
    assert rows(database) == dump, "shipped again, nothing changes"
    said: list[str] = []
    assert verify(sweep, say=said.append).exit_code == 0, said
    shipping = json.loads((folder / "shipping.json").read_text())
    (folder / "shipping.json").write_text(json.dumps(shipping | {"shipped": False}))
    capsys.readouterr()
    assert main(["sync", sweep.name]) == 0
    assert f"{UID} shipped with 2 ensembles" in capsys.readouterr().out, "a sweep brings its comparisons along"
    assert rows(database) == dump
    assert [path.name for path in sweeps_in(runs_dir)] == [sweep.name]
    capsys.readouterr()
    assert main(["status", "--runs-dir", str(runs_dir)]) == 0
    sweeps, _, comparisons = capsys.readouterr().out.partition("comparison ")
    assert sweep.name in sweeps
    assert UID not in sweeps
    assert UID in comparisons
    assert main(["delete", sweep.name, "--yes", "--runs-dir", str(runs_dir)]) == 0
    assert sorted(runs_of(database)) == ["best-0a1b2c3d", "best_single", "mean"], "they outlive the sweep"
    assert (folder / "comparison.json").is_file()


def rows(database: Path) -> dict[str, list[Any]]:
    db = sqlite3.connect(database)
    tables = ("experiments", "runs", "params", "metrics", "latest_metrics")
    found = {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in tables}
    db.close()
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    server.warm_up()
    yield server
    server.close()


def kill_when_begun(server: Server) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and not runs_of(server.database):
        time.sleep(0.005)
    server.kill()


@pytest.mark.slow
def test_a_server_that_was_away_gets_it_later(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_dir = tmp_path / "runs"
    methods = ["best_single", *(f"method {place}" for place in range(1, METHODS))]
    many = [row(method, [0], 0.9) for method in methods]
    found = comparison(UID, ["gone-00000000"], ["gone-00000000/0"], rows=many, winner="method 1")
    folder = kept(runs_dir, found)
    contents = (folder / "comparison.json").read_bytes()
    with pytest.raises(
        NotReadyError,
        match=f"is kept in .*orchestrator sync {UID} --runs-dir {re.escape(str(runs_dir))}. ships it later",
    ):
        ship(found, folder, f"http://127.0.0.1:{free_port()}")
    assert waiting(runs_dir, "gone-00000000") == [folder]
    assert (folder / "comparison.json").read_bytes() == contents
    said = json.loads((folder / "shipping.json").read_text())
    (folder / "shipping.json").write_text(json.dumps(said | {"uri": server.uri}))

    # it dies once the first run is there, and while another is being made
    dying = threading.Thread(target=kill_when_begun, args=(server,))
    dying.start()
    assert main(["sync", UID, "--runs-dir", str(runs_dir)]) == 3
    dying.join()
    assert f"orchestrator sync {UID}" in capsys.readouterr().err
    assert waiting(runs_dir, "gone-00000000") == [folder]
    server.start()
    begun = runs_of(server.database)
    assert begun[UID]["status"] == "RUNNING"
    assert main(["sync", UID, "--runs-dir", str(runs_dir)]) == 0
    assert f"{UID} shipped with {METHODS} ensembles" in capsys.readouterr().out
    shipped = runs_of(server.database)
    assert sorted(shipped) == sorted([UID, *methods])
    assert {tags["status"] for tags in shipped.values()} == {"FINISHED"}
    db = sqlite3.connect(server.database)
    assert db.execute("SELECT count(*) FROM runs").fetchone() == (1 + METHODS,), "no run twice"
    db.close()
    assert waiting(runs_dir, "gone-00000000") == []
