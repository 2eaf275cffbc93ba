"""An MLflow server, for real: killed, restarted, and behind a proxy that loses requests and answers."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.secrets import take_out
from orchestrator.cli import main
from orchestrator.journal.cursor import read_status
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.file import checksum
from orchestrator.journal.place import CopyError
from orchestrator.stores.delete import tracked_runs
from orchestrator.stores.runs import HOLDER_TAG, UnavailableError
from orchestrator.tracking import preflight
from orchestrator.tracking.preflight import check_tracking
from orchestrator.tracking.supervisor import start_shipper, wait_until_shipped
from orchestrator.tracking.sync import sync
from tests.chaos.server import Server, free_port
from tests.synthetic import Sweep


class Proxy:
    """Forwards HTTP requests one by one; `faults` says what to do to the next ones whose path ends with a word.

    A fault is (path end, mode, times); modes are drop_request, drop_response, blackhole, delay and 503.
    """

    def __init__(self, upstream_port: int) -> None:
        self.faults: list[list[Any]] = []
        self.hits: list[str] = []
        self.login = b""
        """What a request has to carry."""
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        self.uri = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request, path = await self._read_request(reader)
                mode = self._mode_for(path)
                if self.login not in request:
                    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                    continue
                if mode == "drop_request":
                    return
                if mode == "blackhole":
                    await asyncio.sleep(60)
                    return
                if mode == "503":
                    writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
                    continue
                if mode == "delay":
                    await asyncio.sleep(1.0)
                answer = await self._forward(request)
                if mode == "drop_response":
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _read_request(reader: asyncio.StreamReader) -> tuple[bytes, str]:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        lengths = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
        body = await reader.readexactly(lengths[0]) if lengths else b""
        once = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        return once + body, lines[0].split(" ")[1].split("?")[0]

    def _mode_for(self, path: str) -> str:
        self.hits.append(path)
        for fault in self.faults:
            if fault[0] in path and fault[2] > 0:
                fault[2] -= 1
                return str(fault[1])
        return "pass"

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer.replace(b"connection: close\r\n", b"", 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    server.warm_up()
    yield server
    server.close()


def mlflow_client(server: Server) -> Any:
    """MLflow's own."""
    from mlflow import MlflowClient

    return MlflowClient(server.uri)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def mirror(new_sweep: Any, ship: Any, tables: Any) -> Any:
    """Ships the journal of a sweep on a server into a local store as well, and compares what the two hold of its runs."""

    def check(sweep: Any, server: Server) -> None:
        twin = new_sweep(f"twin/{sweep.uid}")
        twin.journal.close()
        (twin.folder / "journal.sqlite").unlink()
        for leftover in twin.folder.glob("journal.sqlite-*"):
            leftover.unlink()
        source = sqlite3.connect(sweep.folder / "journal.sqlite")
        copy = sqlite3.connect(twin.folder / "journal.sqlite")
        source.backup(copy)
        source.close()
        with copy:
            row = copy.execute("SELECT data FROM events WHERE seq = 1").fetchone()
            copy.execute(
                "UPDATE events SET data = ? WHERE seq = 1", (row[0].replace('"kind":"server"', '"kind":"local"'),)
            )
            uri = sweep.tracking_uri
            local = f"sqlite:///{twin.folder.parent}/mlflow.db"
            copy.execute("UPDATE events SET data = replace(data, ?, ?) WHERE seq = 1", (uri, local))
            copy.execute("UPDATE events SET data = replace(data, ?, ?)", (str(sweep.folder), str(twin.folder)))
            sign_events(copy)
        copy.close()
        for path in sweep.folder.glob("predictions-*"):
            shutil.copytree(path, twin.folder / path.name)
        sync(twin.folder)
        ours = tables(twin.folder.parent / "mlflow.db")
        theirs = {
            table: [row for row in rows if str(row[0]).startswith(sweep.uid)]
            for table, rows in tables(server.database).items()
            if table != "experiments"
        }
        theirs["runs"] = [row for row in theirs["runs"] if row[4] == "active"]
        of_one_store = {"mlflow.note.content", HOLDER_TAG}
        for table, rows in theirs.items():
            expected = [row for row in ours[table] if row[1] not in of_one_store]
            assert [row for row in rows if row[1] not in of_one_store] == expected, table

    return check


def sign_events(db: sqlite3.Connection) -> None:
    """Makes the checksums fit the events again, after a test has changed some."""
    db.create_function("checksum", 6, checksum)
    db.execute("UPDATE events SET crc = checksum(seq, time_ms, kind, trial, attempt, data)")


def on_server(new_sweep: Any, uri: str, name: str) -> Any:
    sweep = new_sweep(name, kind="server", uri=uri, required=True, experiment="on a server")
    sweep.tracking_uri = uri
    return sweep


FAULTS = [
    ("experiments/create", "drop_response"),
    ("runs/create", "drop_request"),
    ("runs/create", "drop_response"),
    ("runs/create", "blackhole"),
    ("runs/create", "503"),
    ("runs/log-batch", "drop_request"),
    ("runs/log-batch", "drop_response"),
    ("runs/log-batch", "delay"),
    ("runs/update", "drop_response"),
    ("mlflow-artifacts/artifacts", "drop_response"),
    ("runs/search", "drop_response"),
]


@pytest.mark.parametrize(("path", "mode"), FAULTS, ids=[f"{path.rpartition('/')[2]}-{mode}" for path, mode in FAULTS])
def test_lost_requests_and_answers_lose_and_double_nothing(
    path: str, mode: str, server: Server, proxy: Proxy, new_sweep: Any, ship: Any, mirror: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    sweep = on_server(new_sweep, proxy.uri, f"faults-{FAULTS.index((path, mode)):08x}")
    sweep.run_trial(0)
    sweep.run_trial(1)
    proxy.faults = [[path, mode, 2]]
    ship(sweep, patience_s=30.0)
    sweep.finish(2)
    ship(sweep, end=True, patience_s=30.0)
    assert any(path in hit for hit in proxy.hits)
    mirror(sweep, server)


def test_a_run_made_late_by_a_lost_request_is_removed(server: Server, new_sweep: Any, ship: Any, mirror: Any) -> None:
    sweep = on_server(new_sweep, server.uri, "late-00000000")
    sweep.run_trial(0)
    ship(sweep)
    client = mlflow_client(server)
    found = client.get_experiment_by_name("on a server")
    tags = {"sweep_uid": sweep.uid, "trial_uid": f"{sweep.uid}/0", "kind": "trial"}
    client.create_run(found.experiment_id, 1, tags, "late")
    sweep.finish(1)
    ship(sweep, end=True)
    mirror(sweep, server)


def test_artifacts_go_through_the_server(server: Server, new_sweep: Any, ship: Any) -> None:
    sweep = on_server(new_sweep, server.uri, "served-00000000")
    sweep.run_trial(0)
    ship(sweep)
    served = [path.read_text() for path in (server.database.parent / "served").rglob("predictions.safetensors")]
    assert "logits of 0" in served


def test_many_metrics_go_in_few_api(proxy: Proxy, new_sweep: Any, ship: Any) -> None:
    sweep = on_server(new_sweep, proxy.uri, "many-00000000")
    sweep.start(0)
    for first in range(1, 501, 10):
        sweep.report(0, first, first + 9)
    ship(sweep)
    # 1,500 metrics of the trial in two api, the sweep's params in one.
    assert sum("log-batch" in hit for hit in proxy.hits) == 3


def test_a_deleted_experiment_is_told_before_the_start(server: Server, tmp_path: Path) -> None:
    client = mlflow_client(server)
    client.delete_experiment(client.create_experiment("binned"))
    spec = {"kind": "server", "uri": server.uri, "experiment": "binned"}
    with pytest.raises(NotReadyError, match=r"'binned' .* is deleted; restore it"):
        check_tracking(spec, tmp_path)
    spec["experiment"] = "fresh"
    assert check_tracking(spec, tmp_path)["uri"] == server.uri


def test_a_server_that_wants_credentials_is_asked_with_them(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.login = b"Authorization: Basic " + base64.b64encode(b"me:p/ss@w rd")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    (typed,) = take_out([f"tracking.uri={proxy.uri}".replace("//", "//me:p/ss@w rd@")])
    assert typed == f"tracking.uri={proxy.uri}"
    assert check_tracking({"kind": "server", "uri": proxy.uri}, tmp_path)["uri"] == proxy.uri
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong one")
    with pytest.raises(NotReadyError, match=r"MLflow at http://127.* 401") as refusal:
        check_tracking({"kind": "server", "uri": proxy.uri}, tmp_path)
    assert "wrong one" not in str(refusal.value)
    with pytest.raises(ConfigError, match=r"tracking.uri: must hold no credentials"):
        check_tracking({"kind": "server", "uri": proxy.uri.replace("//", "//me:p@")}, tmp_path)


def test_a_server_killed_while_the_journal_grows_misses_nothing(server: Server, new_sweep: Any, mirror: Any) -> None:
    sweep = on_server(new_sweep, server.uri, "killed-00000000")
    sweep.journal.commit()
    process = start_shipper(sweep.folder)
    try:
        for index in range(12):
            sweep.run_trial(index)
            sweep.journal.commit()
            time.sleep(0.1)
            if index == 3:
                server.kill()
        deadline = time.monotonic() + 120
        while read_status(sweep.folder).error is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "refused" in str(read_status(sweep.folder).error)
        server.start()
        sweep.finish(12)
        status = wait_until_shipped(sweep.folder, 120.0)
        assert (status.shipped, status.error) == (sweep.journal.last_seq, None)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    mirror(sweep, server)


def test_sync_ships_what_waited_for_a_server(server: Server, new_sweep: Any, mirror: Any) -> None:
    port = free_port()
    sweep = on_server(new_sweep, f"http://127.0.0.1:{port}", "waited-00000000")
    sweep.run_trial(0)
    sweep.finish(1)
    with pytest.raises(
        NotReadyError, match=r"MLflow at .*refused.*; nothing is lost, run `orchestrator sync waited-00000000` again"
    ):
        sync(sweep.folder)
    proxy = Proxy(server.port)
    try:
        db = sqlite3.connect(sweep.folder / "journal.sqlite")
        with db:
            db.execute("UPDATE events SET data = replace(data, ?, ?) WHERE seq = 1", (sweep.tracking_uri, proxy.uri))
            sign_events(db)
        db.close()
        sweep.tracking_uri = proxy.uri
        assert sync(sweep.folder) == f"7 events of waited-00000000 shipped to {proxy.uri}"
        assert sync(sweep.folder) == f"{proxy.uri} had everything already"
    finally:
        proxy.close()
    mirror(sweep, server)


def test_a_recorded_password_is_used_and_not_shown(
    proxy: Proxy, new_sweep: Any, ship: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    proxy.login = b"Authorization: Basic " + base64.b64encode(b"me:secret")
    proxy.faults = [["get-by-name", "503", 1]]
    uri = proxy.uri.replace("//", "//me:secret@")
    sweep = on_server(new_sweep, uri, "masked-00000000")
    with pytest.raises(UnavailableError, match=r"MLflow at http://127.0.0.1:\d+: .*503"):
        ship(sweep)
    assert "secret" not in str(read_status(sweep.folder).error)
    sweep.run_trial(0)
    sweep.finish(1)
    ship(sweep, end=True)
    assert "secret" not in "".join(capfd.readouterr())


def test_the_dashboard_serves_the_store_and_leaves_nothing_behind(new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    ship(sweep)
    code = f"""
from pathlib import Path
from orchestrator.tracking.dashboard import serve
serve(Path({str(tmp_path)!r}), port=0, say=lambda text: print(text, flush=True))
print("ended", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().startswith("starting MLflow for sqlite:///")
        address = process.stdout.readline().split()[4]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=30) as page:
            assert b"<title>MLflow</title>" in page.read()
        api = f"{address}/api/2.0/mlflow/experiments"
        with urllib.request.urlopen(f"{api}/get-by-name?experiment_name=digits%20lr", timeout=30) as answer:
            assert b"artifact_location" in answer.read()
        (folder,) = (tmp_path / "artifacts").glob("*/*/artifacts/predictions.safetensors")
        with urllib.request.urlopen(
            f"{address}/get-artifact?run_id={folder.parts[-3]}&path=config.yaml", timeout=30
        ) as answer:
            assert b"optimizer: sgd" in answer.read()
        foreign = urllib.request.Request(f"{api}/search?max_results=1", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=30)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "ended\n"
    assert process.wait(10) == 0
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.killpg(process.pid, 0)


def test_a_sweeps_runs_are_deleted_through_the_api_and_found_again_by_nobody(
    server: Server, new_sweep: Any, ship: Any
) -> None:
    sweep = on_server(new_sweep, server.uri, "deleted-00000000")
    sweep.run_trial(0)
    sweep.finish(1)
    ship(sweep, end=True)
    tracking = {"kind": "server", "uri": server.uri, "experiment": "on a server"}
    opened = SweepOpened(sweep.uid, "digits lr", "val/accuracy", "max", 4, str(sweep.folder), "", tracking)
    with tracked_runs(opened, sweep.folder) as runs:
        assert (runs.count, runs.for_good) == (2, False)
        runs.delete()
    db = sqlite3.connect(server.database)
    states = db.execute(
        "SELECT r.lifecycle_stage FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'sweep_uid' AND t.value = ?",
        (sweep.uid,),
    ).fetchall()
    db.close()
    assert states == [("deleted",), ("deleted",)]
    with tracked_runs(opened, sweep.folder) as runs:
        assert runs.count == 0


# copies -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("first_store")
def test_runs_on_a_server_have_one_holder(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy on another machine is not seen there as one: nothing lies where the folder lay. The server says who ships."""
    uid, runs, elsewhere = "held-0a1b2c3d", tmp_path / "runs", tmp_path / "elsewhere"
    runs.mkdir()
    sweep = Sweep(runs / uid, {"kind": "server", "uri": server.uri, "experiment": "held", "required": True}, where=".")
    sweep.run_trial(0)
    sweep.journal.commit()
    sync(sweep.folder)
    first = holder_on(server, uid)
    assert f":{runs}#{runs.stat().st_ino}" in first

    shutil.copytree(runs, tmp_path / "copied")
    os.rename(runs, elsewhere)  # out of sight, as on another machine
    os.rename(tmp_path / "copied", tmp_path / "other machine")
    copy = tmp_path / "other machine" / uid
    sweep.folder = elsewhere / uid
    sweep.run_trial(1)
    sweep.finish(2)
    sync(elsewhere / uid)
    assert f":{elsewhere}#{elsewhere.stat().st_ino}" in holder_on(server, uid), "a move is taken over"

    os.rename(elsewhere, tmp_path / ".hidden")
    text = (tmp_path / "other machine" / "store.json").read_text().replace("/runs", "/nowhere")
    (tmp_path / "other machine" / "store.json").write_text(text)
    for command in ("sync", "delete"):
        confirm = ["--yes"] if command == "delete" else []
        assert main([command, uid, "--runs-dir", str(copy.parent), *confirm]) == 3
        told = capsys.readouterr().err
        assert (
            f"shipped from {socket.gethostname()}:{elsewhere}, and this is {socket.gethostname()}:{copy.parent}" in told
        )
        assert "--yes" in told
    spec = {"kind": "server", "uri": server.uri, "experiment": "held"}
    for ask in (preflight._without_credentials, preflight._by_client):
        assert ask(server.uri, "held", uid) == holder_on(server, uid)
        assert ask(server.uri, "held", "held-ffffffff") is None
    with pytest.raises(CopyError, match=f"shipped from {socket.gethostname()}:{elsewhere}"):
        check_tracking(spec, copy.parent, sweep=uid)  # before a resume
    assert check_tracking(spec, tmp_path / ".hidden", sweep=uid)["kind"] == "server"
    assert main(["adopt", str(copy.parent), "--yes"]) == 0
    (own,) = [path.parent.name for path in copy.parent.glob("*/journal.sqlite")]
    assert own != uid
    db = sqlite3.connect(copy.parent / "mlflow.db")
    assert db.execute("SELECT count(*) FROM tags WHERE key = 'sweep_uid' AND value = ?", (own,)).fetchone() == (2,)
    db.close()
    assert main(["delete", own, "--yes", "--runs-dir", str(copy.parent)]) == 0
    db = sqlite3.connect(server.database)
    assert db.execute("SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE key = 'sweep_uid' AND value = ?"
                      " AND lifecycle_stage = 'active'", (uid,)).fetchone() == (3,)  # fmt: skip
    db.close()


def holder_on(server: Server, uid: str) -> str:
    db = sqlite3.connect(server.database)
    try:
        (row,) = db.execute("SELECT t.value FROM tags t JOIN runs r USING (run_uuid) WHERE r.name = ? AND t.key = ?",
                            (uid, HOLDER_TAG)).fetchall()  # fmt: skip
        return str(row[0])
    finally:
        db.close()
