"""A real MLflow server that can be killed and is back at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

# What `mlflow server --workers 1` runs. Each line on stdin starts it in a fork, so that MLflow is imported once.
SERVER = """
import os, sys
import uvicorn
from mlflow.server.fastapi_app import app
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
"""

START_TIMEOUT_S = 120.0


class Server:
    """A server with a SQLite store below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "server.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        environment = {
            **os.environ,
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self.database}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "served"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self._parent = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=folder,
        )
        self._child = 0

    def start(self) -> None:
        """Starts it and waits until it answers."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print("start", file=self._parent.stdin, flush=True)
        self._child = int(self._parent.stdout.readline())
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                    assert answer.read().strip() == b"OK"
                    return
            except OSError:
                assert time.monotonic() < deadline, f"{self.uri} does not answer"
                time.sleep(0.1)

    def warm_up(self) -> None:
        """Asks the first question, which opens the store and takes seconds."""
        question = f"{self.uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(question, timeout=20):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise

    def kill(self) -> None:
        os.kill(self._child, signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        with self._parent:
            pass


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
