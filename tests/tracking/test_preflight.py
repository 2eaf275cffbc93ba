"""What is told before a sweep starts when its tracking cannot work."""

from __future__ import annotations

import contextlib
import http.server
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.journal.place import STORE_MARK, CopyError
from orchestrator.stores.holding import holder_tag
from orchestrator.stores.runs import HOLDER_TAG, RunWrite
from orchestrator.stores.schema import create
from orchestrator.stores.settling import settle
from orchestrator.stores.sqlite import SqliteStore
from orchestrator.tracking import preflight
from orchestrator.tracking.preflight import check_tracking


def server(uri: str, **more: Any) -> dict[str, Any]:
    return {"_target_": "orchestrator.config.settings.ServerTracking", "uri": uri, "experiment": None, **more}


def local(uri: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "_target_": "orchestrator.config.settings.LocalTracking",
        "uri": uri,
        "artifacts": None,
        "experiment": None,
        **more,
    }


def test_a_local_store_lies_in_the_runs_folder_and_is_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = check_tracking(local(), Path("runs"))
    assert found["uri"] == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert found["artifacts"] == f"{tmp_path}/runs/artifacts"
    assert found["kind"] == "local"
    assert list(tmp_path.iterdir()) == []


def test_no_tracking_is_no_tracking(tmp_path: Path) -> None:
    assert check_tracking({"_target_": "orchestrator.config.settings.NoTracking"}, tmp_path) == {"kind": "none"}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (server("htp://localhost:5000"), r"tracking\.uri: must start with http://.*got htp://localhost:5000"),
        (server("file:///tmp/mlruns"), r"must be the address of an MLflow server .*got file:///tmp/mlruns"),
        (server("sqlite:////tmp/mlflow.db"), "a database is tracking=local"),
        (server("localhost:5000"), "must start with http://"),
        (server("http://:5000"), "and name a host"),
        (server("http://host:port"), "cannot be read"),
        (server(""), "must start with http://"),
        (local("file:///tmp/mlruns"), r"must be sqlite:///<absolute path>.*file store is gone"),
        (local("sqlite:///mlflow.db"), r"must name an absolute path, with four slashes: sqlite:////"),
        (local("sqlite://"), "must name an absolute path"),
        (local("http://localhost:5000"), "use tracking=server"),
        (local(artifacts="here"), "must be an absolute folder"),
        ({"kind": "loca"}, "must be local, server or none"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained(spec: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        check_tracking(spec, tmp_path)


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"htp://\*\*\*@host") as caught:
        check_tracking(server("htp://me:secret@host"), tmp_path)
    assert "secret" not in str(caught.value)


def test_a_closed_port_is_told_with_what_to_do(closed_port: int, tmp_path: Path) -> None:
    told = rf"no MLflow server at http://127.0.0.1:{closed_port} .*refused.*`mlflow server --host 0.0.0.0 --port {closed_port}`"
    with pytest.raises(NotReadyError, match=told):
        check_tracking(server(f"http://127.0.0.1:{closed_port}"), tmp_path)


def test_a_server_that_is_not_required_may_be_away(closed_port: int, tmp_path: Path) -> None:
    found = check_tracking(server(f"http://127.0.0.1:{closed_port}", required=False), tmp_path)
    assert found["required"] is False
    assert "no MLflow server" in found["unreachable"]


def test_something_else_on_the_port_is_no_mlflow(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            with pytest.raises(NotReadyError, match=r"no MLflow server at .*its API gives 404"):
                check_tracking(server(f"http://127.0.0.1:{other.server_port}"), tmp_path)
        finally:
            other.shutdown()
            thread.join()


def test_a_black_hole_is_given_up_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole, pytest.raises(NotReadyError, match="timed out"):
        check_tracking(server(f"http://127.0.0.1:{hole.getsockname()[1]}"), tmp_path)


def test_a_check_that_hangs_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LIMIT_S", 0.6)
    with (
        socket.create_server(("127.0.0.1", 0)) as hole,
        pytest.raises(NotReadyError, match=r"no answer within 0\.6 s"),
    ):
        check_tracking(server(f"http://127.0.0.1:{hole.getsockname()[1]}"), tmp_path)


def test_a_store_of_another_version_is_refused_with_the_upgrade(tmp_path: Path) -> None:
    path = _store(tmp_path)
    _change(path, "UPDATE alembic_version SET version_num = 'abc'")
    assert check_tracking(local(), tmp_path)["kind"] == "local", "its tables are those that we know"
    _change(path, "ALTER TABLE runs ADD COLUMN owner VARCHAR NOT NULL DEFAULT 'me'")
    assert check_tracking(local(), tmp_path)["kind"] == "local", "a column that fills itself does no harm"
    _change(path, "ALTER TABLE runs RENAME COLUMN status TO state")
    with pytest.raises(NotReadyError, match=f"schema abc.*mlflow db upgrade sqlite:///{path}"):
        check_tracking(local(), tmp_path)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look like one" * 100, b"\0" * 5000])
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(NotReadyError, match="is not an MLflow store"):
        check_tracking(local(), tmp_path)


def test_a_deleted_experiment_is_told(tmp_path: Path) -> None:
    path = _store(tmp_path)
    assert check_tracking(local(), tmp_path, name="mine")["kind"] == "local"
    _change(path, "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'mine'")
    with pytest.raises(NotReadyError, match=r"'mine' \(id 1\) is deleted"):
        check_tracking(local(), tmp_path, name="mine")


def test_a_runs_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(NotReadyError, match="cannot be written"):
        check_tracking(local(), tmp_path / "runs")


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as probe:  # bound, but nobody listens
        probe.bind(("127.0.0.1", 0))
        yield int(probe.getsockname()[1])


class _Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _store(folder: Path) -> Path:
    create(folder / "mlflow.db", folder / "artifacts")
    store = SqliteStore(folder / "mlflow.db", "mine", folder / "artifacts")
    store.open()
    store.close()
    return folder / "mlflow.db"


def _change(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


def test_a_store_elsewhere_says_which_folder_ships_a_sweep(tmp_path: Path) -> None:
    """Each of two folders with one identity is told apart by the place that the run's tag names."""
    store, runs, copy = tmp_path / "team", tmp_path / "runs", tmp_path / "copy"
    for folder in (store, runs, copy):
        folder.mkdir()
    path = _store(store)
    identity = settle(runs)
    (copy / STORE_MARK).write_text(
        identity.to_json().replace(str(runs), str(copy)).replace(str(runs.stat().st_ino), str(copy.stat().st_ino))
    )
    with contextlib.closing(SqliteStore(path, "lr", store / "artifacts")) as writer:
        writer.open()
        tags = {"sweep_uid": "lr-0a1b2c3d", "kind": "sweep", HOLDER_TAG: str(holder_tag(runs))}
        writer.write([RunWrite("lr-0a1b2c3d", "sweep", create=True, name="lr-0a1b2c3d", start_ms=1, tags=tags)])
    spec = local(f"sqlite:///{path}")
    assert check_tracking(spec, runs, sweep="lr-0a1b2c3d")["uri"] == f"sqlite:///{path}"
    assert check_tracking(spec, copy, sweep="lr-ffffffff")["uri"] == f"sqlite:///{path}", "another sweep"
    with pytest.raises(CopyError, match=rf"shipped from \S+:{runs}, and this is \S+:{copy}"):
        check_tracking(spec, copy, sweep="lr-0a1b2c3d")
