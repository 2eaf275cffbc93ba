"""Versions of a published file on their way to MLflow, to a local store and through MLflow's own client."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.layout import LOCK
from orchestrator.base.locks import DRIVING, hold
from orchestrator.journal.cursor import read_status
from orchestrator.journal.publishing import file_event
from orchestrator.stores.client import ClientStore
from orchestrator.tracking import shipper
from orchestrator.tracking.shipper import Shipper


def publish(sweep: Any, key: str, path: str, text: str) -> Path:
    file = Path(sweep.folder, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    sweep.journal.append(file_event(sweep.folder, sweep.uid, key, file))
    return file


# MLflow's own warnings; on import, which takes seconds
CLIENT = pytest.param("client", marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])


@pytest.fixture(params=["local", CLIENT])
def ships(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Ships everything of a sweep; the lines that the shipper logs."""

    def ships(sweep: Any) -> list[str]:
        sweep.journal.commit()
        (sweep.folder / "tracking").mkdir(exist_ok=True)
        lines: list[str] = []
        client = {"make_store": lambda settings, name: ClientStore(settings["uri"], name, tmp_path / "artifacts")}
        ours = Shipper(sweep.folder, log=lines.append, **(client if request.param == "client" else {}))
        try:
            ours.ship_everything()
        finally:
            ours.close()
        return lines

    return ships


def artifacts(root: Path) -> dict[str, str]:
    """Name -> contents of the artifacts of the sweep's run."""
    (config,) = (path for path in (root / "artifacts").rglob("config.yaml"))
    run = config.parent
    return {
        path.relative_to(run).as_posix(): path.read_text()
        for path in run.rglob("*")
        if path.is_file() and path != config
    }


def test_files_have_the_names_of_their_artifacts(new_sweep: Any, ships: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    publish(sweep, "report.html", "published/report-1.html", "first")
    publish(sweep, "model/MLmodel", "published/model-1/MLmodel", "flavors")
    publish(sweep, "model/data/weights", "published/model-1/best.safetensors", "tensors")
    assert ships(sweep) == []
    expected = {"report.html": "first", "model/MLmodel": "flavors", "model/data/weights": "tensors"}
    assert artifacts(tmp_path) == expected
    publish(sweep, "report.html", "published/report-2.html", "second")
    assert ships(sweep) == []
    assert artifacts(tmp_path) == expected | {"report.html": "second"}
    assert (sweep.folder / "published/report-1.html").read_text() == "first"


def test_a_version_that_is_gone_is_passed_over_where_a_later_one_is_recorded(
    new_sweep: Any, ships: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "EVENTS_A_BATCH", 2)  # so that the later one is in another batch
    sweep = new_sweep()
    first = publish(sweep, "report.html", "published/report-1.html", "first")
    figure = publish(sweep, "figure.svg", "published/figure.svg", "curve")
    publish(sweep, "report.html", "published/report-2.html", "second")
    first.unlink()
    figure.unlink()
    (line,) = ships(sweep)
    assert "figure.svg" in line
    assert line.endswith("is gone")
    assert artifacts(tmp_path) == {"report.html": "second"}


def test_what_is_published_of_a_closed_sweep_is_shipped_by_the_same_shipper(new_sweep: Any) -> None:
    """It stays for as long as a driver works on the sweep, until that tells it to stop."""
    sweep = new_sweep()
    (sweep.folder / "tracking").mkdir()
    sweep.run_trial(0)
    sweep.finish(1)
    stop, wake = threading.Event(), threading.Event()
    done: list[bool] = []

    def ship() -> None:
        ours = Shipper(sweep.folder)
        driven = lambda: shipper._is_driven(sweep.folder)  # noqa: E731
        done.append(shipper.follow(ours, driver_lives=lambda: True, stop=stop, wake=wake, more_follows=driven))
        ours.close()

    with hold(sweep.folder / LOCK, f"{DRIVING} {sweep.uid}"):
        thread = threading.Thread(target=ship)
        thread.start()
        wait_until_shipped(sweep, thread)
        publish(sweep, "report.html", "published/report-1.html", "of the closed sweep")
        sweep.journal.commit()
        wait_until_shipped(sweep, thread)
        assert not read_status(sweep.folder).ended
        stop.set()
        wake.set()
        thread.join()
    assert done == [True]
    assert read_status(sweep.folder).ended


def wait_until_shipped(sweep: Any, thread: threading.Thread) -> None:
    while read_status(sweep.folder).shipped < sweep.journal.last_seq:
        assert thread.is_alive()
        time.sleep(0.02)
