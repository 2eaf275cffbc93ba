"""A head that is gone is seen soon, and ends a driver that hangs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from orchestrator.base.errors import EXIT_RESUMABLE, NotReadyError
from orchestrator.scheduling.ray.head import Head


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def wait_until_gone(head: Head) -> None:
    while True:
        head.check()
        threading.Event().wait(0.05)


def test_a_head_that_answers_is_there(listening: socket.socket) -> None:
    head = Head(address(listening), grace_s=0)
    with head.watched():
        listening.accept()[0].close()
        listening.accept()[0].close()
        head.check()


def test_a_head_that_no_longer_answers_is_told(listening: socket.socket) -> None:
    head = Head(address(listening), grace_s=0.1, leave_s=60)
    with head.watched():
        head.check()
        where = address(listening)
        listening.close()
        with pytest.raises(
            NotReadyError, match=f"the head of the Ray cluster at {where} is gone .*; start the cluster again"
        ):
            wait_until_gone(head)


HANGS = """
import sys, threading
from orchestrator.scheduling.ray.head import Head
head = Head(sys.argv[1], grace_s=0, leave_s=0.1)
head.last_words = "; then go on with:  orchestrator resume mine"
with head.watched():
    threading.Event().wait()
"""


def test_a_driver_that_hangs_is_ended_with_the_command_that_resumes(listening: socket.socket) -> None:
    where = address(listening)
    listening.close()
    done = subprocess.run(
        [sys.executable, "-c", HANGS, where], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == EXIT_RESUMABLE
    assert done.stderr.startswith(f"the head of the Ray cluster at {where} is gone")
    assert done.stderr.endswith("start the cluster again; then go on with:  orchestrator resume mine\n")
