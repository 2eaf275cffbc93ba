"""A Ray cluster for one sweep: a private one on this machine, or one that is running already."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import LOCK
from orchestrator.base.locks import hold, holder

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""Trials exchange only short texts with the driver; their data lies in memory-mapped files."""


KNOCK_S = 5.0

YOUNG_S = 60.0

PREFIX = "orchestrator-ray-"
"""Begins the names of the temporary folders of private clusters."""


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has."""

    cpus: float
    gpus: float

    def holds(self, cpus: float, gpus: float) -> int:
        """How many trials of this size it can run at a time."""
        room = [have / need for have, need in ((self.cpus, cpus), (self.gpus, gpus)) if need]
        return int(min(room) + 1e-9)


@contextlib.contextmanager
def connect(address: str | None, *, preload: str) -> Iterator[list[Node]]:
    """Starts a private cluster (`address` None) or joins the one at `address`; on leaving, nothing that was started stays.

    Where this process is connected to Ray already, that connection is used and kept.

    Args:
        preload: a module that every new worker of a private cluster imports before it gets work.

    Raises:
        NotReadyError: the cluster cannot be started or reached.
    """
    set_environment()
    import ray

    if ray.is_initialized():
        yield _nodes()
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    with _own_folder() if address is None else contextlib.nullcontext() as folder:
        if address is None:
            os.environ["RAY_preload_python_modules"] = preload  # noqa: SIM112, Ray's own spelling
            os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112, 15 by default: behind all else here
        try:
            try:
                with _own_signal_handlers():
                    _start(address, folder)
            except Exception as error:
                where = "on this machine" if address is None else f"at {address}"
                hint = "" if address is None else "; start one with `ray start --head` and give its host:port"
                raise NotReadyError(
                    f"no Ray cluster {where}: {error}{hint and hint + ' as cluster.address'}"
                ) from error
            yield _nodes()
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """A temporary folder for a private cluster; those whose drivers were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            young = time.time() - left.stat().st_mtime < YOUNG_S  # its driver may be about to take its lock
            if not young and (left / LOCK).exists() and holder(left / LOCK) is None:
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with hold(folder / LOCK, "uses this folder"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(address: str | None, folder: Path | None) -> None:
    import ray
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if address is not None:
        _knock(address)
        # A cluster that was started where a token lies asks for it; an explicit address alone never sends one (ray 2.60).
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        ray.init(address=address, **quiet)
        return
    with _without_unused_processes():
        ray.init(
            address="local",
            num_cpus=len(os.sched_getaffinity(0)),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
            **quiet,
        )


def _knock(address: str) -> None:
    """Asks whether anything listens at `[ray://]host:port`; Ray itself would try for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _nodes() -> list[Node]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(float(have.get("CPU", 0)), float(have.get("GPU", 0))) for have in alive]


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


@contextlib.contextmanager
def _without_unused_processes() -> Iterator[None]:
    """Keeps an autoscaler, a log forwarder and a dashboard from starting: 3 s and 300 MB that a private cluster does not use.

    There is no public switch for them (ray 2.60).
    """
    from ray._private.node import Node

    def nothing(*args: object, **kwargs: object) -> None:
        del args, kwargs

    unused = {name: getattr(Node, name) for name in ("start_monitor", "start_log_monitor", "start_api_server")}
    try:
        for name in unused:
            setattr(Node, name, nothing)
        yield
    finally:
        for name, method in unused.items():
            setattr(Node, name, method)


def set_environment() -> None:
    """Sets what Ray reads from the environment, some of it when it is imported: quiet, no usage report, no loggers of its own."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    }
    os.environ.update(settings)
