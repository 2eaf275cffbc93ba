"""The dashboard before MLflow is imported; tests/tracking/test_server.py serves it for real."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.tracking.dashboard import serve


def test_a_busy_port_is_told_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        told = rf"port {port} is used by process {os.getpid()} \(.+\); choose another with --port=N, or --port=0"
        with pytest.raises(NotReadyError, match=told):
            serve(tmp_path, port=port)


@pytest.mark.parametrize("port", [65536, -1])
def test_a_port_that_does_not_exist_is_told(tmp_path: Path, port: int) -> None:
    with pytest.raises(NotReadyError, match="does not exist"):
        serve(tmp_path, port=port)


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(NotReadyError, match="no MLflow server at") as caught:
            serve(tmp_path, uri=f"http://127.0.0.1:{probe.getsockname()[1]}")
    assert "tracking" not in str(caught.value), "a dashboard has no such settings"


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"there is no folder .*typo; .*--runs-dir names another"):
        serve(tmp_path / "typo", port=0)
    assert list(tmp_path.iterdir()) == []
