"""A Ray cluster for one sweep: a private one on this machine, or one that is running already."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import LOCK
from orchestrator.base.locks import hold, holder
from orchestrator.base.removal import remove_abandoned, temporary_folder
from orchestrator.scheduling.ray.head import Head, knock

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""Trials exchange only short texts with the driver; their data lies in memory-mapped files."""

YOUNG_S = 60.0

RAY_WAITS_S = 300

SHUTDOWN_TIMEOUT_S = 15.0
"""How long to wait for Ray to disconnect; it can hang where the head is gone."""

PREFIX = "orchestrator-ray-"
"""Begins the names of the temporary folders of private clusters."""


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has.

    Args:
        id: Ray's own.
        name: for people.
    """

    cpus: float
    gpus: float
    id: str = ""
    name: str = "this machine"

    def holds(self, cpus: float, gpus: float) -> int:
        """How many trials of this size it can run at a time.

        A trial's fraction of a GPU lies on one device, so that 8 devices hold 8 trials of 0.6 each, and not 13.
        """
        room = [self.cpus / cpus] if cpus else []
        if gpus >= 1:
            room.append(self.gpus / gpus)
        elif gpus:
            whole = int(self.gpus)
            room.append(whole * _parts(1, gpus) + _parts(self.gpus - whole, gpus))
        return int(min(room) + 1e-9)


def _parts(whole: float, part: float) -> int:
    return int(whole / part + 1e-4)  # Ray counts in ten-thousandths: three times 0.3333 fit


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Args:
        nodes: those that are alive.
        head: watches it; None where the cluster is this process' own, or was connected by someone else.
    """

    nodes: list[Node]
    head: Head | None = None

    def check(self) -> None:
        """Raise NotReadyError if the cluster is gone."""
        if self.head:
            self.head.check()


@contextlib.contextmanager
def connect(
    address: str | None,
    *,
    preload: str,
    cpus: int | None = None,
    gpus: int | None = None,
    memory_bytes: int | None = None,
) -> Iterator[Cluster]:
    """Starts a private cluster (`address` None) or joins the one at `address`; on leaving, nothing that was started stays.

    Where this process is connected to Ray already, that connection is used and kept.

    Args:
        preload: a module that every new worker of a private cluster imports before it gets work.
        cpus, gpus, memory_bytes: what a private cluster may use; what Ray finds where absent.

    Raises:
        NotReadyError: the cluster cannot be started or reached.
    """
    import ray

    if ray.is_initialized():
        yield Cluster(_nodes())
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address is None:
        os.environ["RAY_preload_python_modules"] = preload  # noqa: SIM112, Ray's own spelling
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112, 15 by default: behind all else here
        resources = {"num_cpus": cpus, "num_gpus": gpus, "_memory": memory_bytes}
        with _own_folder() as folder, _connected("on this machine", lambda: _start(folder, resources), ray.shutdown):
            yield Cluster(_nodes())
        return
    with contextlib.ExitStack() as stack:
        head = ""

        def join() -> None:
            nonlocal head
            head = _join(address, stack)

        with _connected(f"at {address}", join, _disconnect):
            watch = Head(head)
            with watch.watched():
                yield Cluster(_nodes(), watch)


@contextlib.contextmanager
def _connected(where: str, start: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """Connected to Ray for as long as the block lasts."""
    try:
        try:
            with _own_signal_handlers():
                start()
        except NotReadyError:
            raise
        except Exception as error:
            hint = (
                "" if where == "on this machine" else "; start one with `ray start --head`, and give its host:port as"
            )
            raise NotReadyError(f"no Ray cluster {where}: {error}{hint and hint + ' cluster.address'}") from error
        yield
    finally:
        leave()


def _disconnect() -> None:
    """Leaves the cluster, without waiting for a head that is gone."""
    import ray

    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(SHUTDOWN_TIMEOUT_S)


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """A temporary folder for a private cluster; those whose drivers were killed are removed."""
    parent = Path(tempfile.gettempdir())
    remove_abandoned(parent, PREFIX, _is_abandoned)
    with temporary_folder(parent, PREFIX) as folder, hold(folder / LOCK, "uses this folder"):
        yield folder


def _is_abandoned(folder: Path) -> bool:
    young = time.time() - folder.lstat().st_mtime < YOUNG_S  # its driver may be about to take its lock
    return not young and (folder / LOCK).exists() and holder(folder / LOCK) is None


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}


def _start(folder: Path, resources: dict[str, int | None]) -> None:
    import ray

    from orchestrator.scheduling.ray.private import job_without_path, lean_node

    with lean_node():
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
            job_config=job_without_path(),
            **resources,
            **_QUIET,
        )


def _join(address: str, stack: contextlib.ExitStack) -> str:
    """Connects as the cluster wants it; returns `host:port` of its head.

    Args:
        stack: what has to last as long as the connection.
    """
    import ray

    from orchestrator.scheduling.ray.private import authenticated, job_without_path

    if address != "auto":
        knock(address)
    head = stack.enter_context(authenticated(address))
    # Ray's own wait for a head that is gone ends the process; `Head` sees it before.
    os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = str(RAY_WAITS_S)  # noqa: SIM112, Ray's own spelling
    ray.init(address=head, job_config=job_without_path(), **_QUIET)
    return head


def _nodes() -> list[Node]:
    import ray

    alive = [(node, node["Resources"]) for node in ray.nodes() if node["Alive"]]
    return [
        Node(float(have.get("CPU", 0)), float(have.get("GPU", 0)), node["NodeID"], _name(node)) for node, have in alive
    ]


def _name(node: dict[str, Any]) -> str:
    """By which people know a node: the name that it was started with, by default its address, and that of the machine."""
    return f"node {node['NodeName']} ({node['NodeManagerHostname']})"


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it connects, and would end the process with another exit code than ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
