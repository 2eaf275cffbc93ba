"""Serves MLflow's own UI on 127.0.0.1, and says where in it a sweep is: `orchestrator dashboard [NAME]`.

MLflow is imported when it is served, not before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.secrets import redact
from orchestrator.journal.events import Suggested, SweepOpened
from orchestrator.journal.place import SQLITE
from orchestrator.journal.record import read_events
from orchestrator.stores.opening import local_store, open_reader, open_store, store_settings
from orchestrator.stores.runs import UnavailableError
from orchestrator.stores.schema import create, other_version
from orchestrator.stores.settling import settle
from orchestrator.tracking.preflight import ADVICE, check_tracking
from orchestrator.tracking.view import View, address

HOST = "127.0.0.1"
GRACE_S = 2


def serve(
    runs_dir: Path,
    *,
    port: int = 5000,
    uri: str | None = None,
    sweep: Path | None = None,
    say: Callable[[str], None] = print,
    show: Callable[[str], object] = lambda address: None,
) -> None:
    """Serves the store of `runs_dir` until Ctrl-C or SIGTERM; says the address once it answers.

    The server runs in this very process, so that nothing is left behind however it ends, and MLflow is imported once
    instead of once a process.

    Args:
        port: 0 picks a free one.
        uri: a local store elsewhere (`sqlite:////...`), or a server, whose address is said instead.
        sweep: the folder of the sweep that the address leads to; without, it leads to MLflow's first page.
        show: takes the address, once it answers, and opens it where somebody can see it.

    Raises:
        ConfigError: `uri` is none that can be used.
        CopyError: the runs folder is a copy, whose addresses of artifacts lead to the original.
        NotReadyError: the port is in use (names by whom), or the store or server is not as it should be.
    """
    if uri is not None and not uri.startswith(("sqlite:", "file:")):
        try:
            check_tracking({"kind": "server", "uri": uri}, runs_dir)
        except NotReadyError as error:  # the way out is that of a sweep
            raise NotReadyError(str(error).partition(ADVICE)[0]) from error
        address = page_of(sweep, redact(uri), uri) if sweep else redact(uri)
        say(f"the dashboard of this server is at {address}")
        show(address)
        return
    settings = check_tracking({"kind": "local", "uri": uri}, runs_dir)
    listener = _listen(port)
    with listener:
        if uri is None and not runs_dir.is_dir():
            raise NotReadyError(
                f"there is no folder {runs_dir}; `orchestrator launch` makes one, --runs-dir names another folder of sweeps"
            )
        if settings["uri"] == local_store(runs_dir.resolve())["uri"]:
            settle(runs_dir)
        base = f"http://{HOST}:{listener.getsockname()[1]}"
        say(f"starting MLflow for {settings['uri']} (takes some seconds) ...")
        _prepare(Path(settings["uri"].removeprefix(SQLITE)), Path(settings["artifacts"]))
        page = page_of(sweep, base, settings["uri"]) if sweep else base
        threading.Thread(target=_say_when_up, args=(base, page, say, show), daemon=True).start()
        _serve(settings["uri"], settings["artifacts"], listener)


def check_port(port: int) -> None:
    """
    Raises:
        NotReadyError: the port is in use, or not ours to take.
    """
    _listen(port).close()


def _listen(port: int) -> socket.socket:
    """A socket on the port, held from now on.

    Raises:
        NotReadyError: it is in use, or not ours to take.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        holder = _holder_of(port)
        by = f"is used by {holder}" if holder else f"cannot be used ({error.strerror})"
        raise NotReadyError(f"port {port} {by}; choose another with --port=N, or --port=0 for a free one") from error
    except OverflowError as error:
        listener.close()
        raise NotReadyError(
            f"port {port} does not exist; choose one from 1024 to 65535, or 0 for a free one"
        ) from error
    return listener


def _holder_of(port: int) -> str | None:
    """Process number and program of whoever listens on the port, None where that cannot be seen."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return None


def _prepare(path: Path, artifact_root: Path) -> None:
    """Makes the store where there is none.

    Raises:
        NotReadyError: it cannot be made, or is of another version of MLflow.
    """
    try:
        create(path, artifact_root)
        problem = other_version(path)
    except UnavailableError as error:
        raise NotReadyError(str(error)) from error
    if problem:
        raise NotReadyError(problem)


def _serve(uri: str, artifact_root: str, listener: socket.socket) -> None:
    """Runs MLflow's web application in this process; its settings travel in the environment, as with `mlflow server`."""
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    logging.getLogger("alembic").setLevel(logging.WARNING)

    # uvicorn first: mlflow.server turns on its protection against foreign Host headers where it sees a server loaded.
    import uvicorn
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

    os.environ[BACKEND_STORE_URI_ENV_VAR] = uri
    os.environ[ARTIFACT_ROOT_ENV_VAR] = artifact_root
    from mlflow.server.fastapi_app import app

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _say_when_up(base: str, page: str, say: Callable[[str], None], show: Callable[[str], object]) -> None:
    """Says the address once the server answers; the listening socket keeps the request until then."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health", timeout=300) as answer:
        if answer.read().strip() == b"OK":
            say(f"the dashboard is at {page} (Ctrl-C stops it)")
            show(page)


def page_of(sweep: Path, base: str, uri: str) -> str:
    """The address that shows a sweep's trials; its view is written to the store where it is missing or another.

    Args:
        base: the address of MLflow's pages.
        uri: the store that they show.

    Raises:
        NotReadyError: MLflow has no run of the sweep yet, or its store cannot be written.
    """
    view = view_of(sweep)
    settings = {**store_settings(view.opened, sweep), "uri": uri}
    experiment = str(settings.get("experiment") or view.opened.name)
    try:
        with contextlib.closing(open_reader(settings, experiment)) as reader:
            found = reader.experiment()
        if found is None or found.stage != "active":
            raise NotReadyError(f"MLflow has nothing of {sweep.name} yet; run `orchestrator sync {sweep.name}`")
        key, value = view.tag
        if view.trials and found.tags.get(key) != value:
            with contextlib.closing(open_store(settings, experiment)) as store:
                store.open()
                store.tag_experiment(key, value)
    except UnavailableError as error:
        raise NotReadyError(str(error)) from error
    return address(base, found.experiment_id, view.opened.uid)


def view_of(sweep: Path) -> View:
    """The view of the sweep in a folder, by its journal.

    Raises:
        NotReadyError: the journal cannot be read, or is empty.
    """
    view: View | None = None
    for entry in read_events(sweep):
        if isinstance(entry.event, SweepOpened):
            view = View(entry.event, entry.time_ms)
        elif isinstance(entry.event, Suggested) and view is not None:
            view.suggested(entry.event.params)
    if view is None:
        raise NotReadyError(f"nothing is recorded of {sweep.name}; launch it again")
    return view
