from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers of pytest share the cores; more threads wait for each other

from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator.scheduling.ray  # noqa: F401 - before any test imports Ray itself

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


# `nohup` and the background of a script have these ignored, and so would every child of a test.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

STARTS_RAY = {"ray_cluster", "nodes", "guarded"}
"""Fixtures of the modules that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The modules that start Ray come first, so that no process is left with one of them at the end."""
    long = {
        item.path
        for item in items
        if STARTS_RAY & set(getattr(item, "fixturenames", ())) or item.path.stem == "test_cli"
    }
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """For decoded images and MLflow's empty store, which takes seconds to make; the processes of a session share it."""
    own = tmp_path_factory.getbasetemp()
    return str((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "data-cache")


@pytest.fixture(autouse=True)
def own_cache(cache: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests cache goes to the session's temporary folder, the user's settings file is out of sight."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE", cache)
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(tmp_path_factory.getbasetemp() / "no-settings.yaml"))


@pytest.fixture
def first_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Has MLflow make its store once a session, which takes seconds that no test's patience has to cover."""
    from orchestrator.stores.schema import create

    folder = tmp_path_factory.getbasetemp() / "first-store"
    folder.mkdir(exist_ok=True)
    create(folder / "mlflow.db", folder / "artifacts")


@pytest.fixture(scope="session")
def ray_cluster(cache: str) -> Iterator[None]:
    """One private Ray for the whole session; a sweep in this process uses it and leaves it."""
    os.environ["ORCHESTRATOR_CACHE"] = cache
    from orchestrator.scheduling.ray.cluster import connect

    with connect(None, preload="orchestrator.scheduling.ray.warm"):
        yield
    del os.environ["ORCHESTRATOR_CACHE"]
