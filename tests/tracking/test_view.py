"""The view of a sweep on MLflow's page: what it holds, where it is kept, and that a browser that was never there shows it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.cli import main
from orchestrator.journal.finding import newest_tracked
from orchestrator.stores.delete import tracked_runs
from orchestrator.stores.runs import VIEW_TAG
from orchestrator.tracking.dashboard import page_of, view_of
from orchestrator.tracking.sync import sync
from orchestrator.tracking.view import MAX_SLICES, address, unpacked
from tests.browser import browser, console_errors, needs_browser
from tests.simulated import simulated_sweep

KNOWN_COMPLAINTS = ("users/current", "AG Grid", "willReadFrequently", "favicon")
"""What MLflow's own page writes into the console, whatever it shows."""


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A simulated sweep of 16 trials in a local store."""
    folder = simulated_sweep(tmp_path / "runs" / "sim-00000000", trials=16, seed=1)
    sync(folder, log=lambda line: None)
    return folder


def tags(runs_dir: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(runs_dir / "mlflow.db")) as db:
        return dict(db.execute("SELECT key, value FROM experiment_tags WHERE key LIKE ?", (f"{VIEW_TAG}%",)).fetchall())


def test_the_tracker_writes_one_view_a_sweep(shipped: Path) -> None:
    simulated_sweep(shipped.parent / "sim-00000001", trials=4)
    sync(shipped.parent / "sim-00000001", log=lambda line: None)
    found = tags(shipped.parent)
    assert set(found) == {f"{VIEW_TAG}sim-00000000", f"{VIEW_TAG}sim-00000001"}
    state = unpacked(found[f"{VIEW_TAG}sim-00000000"])
    assert state["searchFilter"] == "tags.sweep_uid = 'sim-00000000' AND tags.kind = 'trial'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val_accuracy`", False)
    assert state["selectedColumns"][:3] == ["tags.`reason`", "metrics.`best/val_accuracy`", "metrics.`test/accuracy`"]
    kinds = [chart["type"] for chart in state["compareRunCharts"]]
    assert kinds == ["PARALLEL", "BAR", "LINE", "LINE", *["SCATTER"] * 4]
    parallel = state["compareRunCharts"][0]
    assert "optimizer.momentum" not in parallel["selectedParams"], "a trial that lacks an axis is not drawn"
    assert parallel["selectedMetrics"] == ["log10/optimizer.lr", "log10/init.scale", "best/val_accuracy"]
    assert all(len(value) < 5_000 for value in found.values()), "MLflow's limit"


def test_a_view_of_many_keys_fits_a_tag(shipped: Path) -> None:
    view = view_of(shipped)
    view.suggested({f"model.{'long' * 20}_argument_{index}": index / 7 for index in range(200)})
    key, value = view.tag
    assert key == f"{VIEW_TAG}sim-00000000"
    assert len(value) < 5_000
    assert sum(chart["type"] == "SCATTER" for chart in unpacked(value)["compareRunCharts"]) == MAX_SLICES


def test_a_sweep_without_a_view_gets_it_with_its_address(shipped: Path) -> None:
    before = tags(shipped.parent)
    with contextlib.closing(sqlite3.connect(shipped.parent / "mlflow.db")) as db, db:
        db.execute("DELETE FROM experiment_tags WHERE key LIKE ?", (f"{VIEW_TAG}%",))
    uri = f"sqlite:///{shipped.parent}/mlflow.db"
    page = page_of(shipped, "http://127.0.0.1:5000", uri)
    assert page == address("http://127.0.0.1:5000", "1", "sim-00000000")
    assert page.endswith("/runs?workflowType=machine_learning&viewStateShareKey=sim-00000000")
    assert tags(shipped.parent) == before


def test_a_sweep_that_mlflow_has_not_is_told(tmp_path: Path) -> None:
    folder = simulated_sweep(tmp_path / "runs" / "sim-00000000", trials=2)
    with pytest.raises(NotReadyError, match="MLflow has nothing of sim-00000000 yet; run `orchestrator sync sim-0000"):
        page_of(folder, "http://127.0.0.1:5000", f"sqlite:///{tmp_path}/runs/mlflow.db")
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    with pytest.raises(NotReadyError, match=r"no sweep in .*runs is tracked; `orchestrator sync sim-00000000`"):
        newest_tracked(tmp_path / "runs")


@pytest.mark.parametrize("there", [True, False])
def test_without_a_sweep_it_says_so_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    runs = tmp_path / "runs"
    if there:
        runs.mkdir()
    assert main(["dashboard", "--runs-dir", str(runs), "--port", "0"]) == 3
    assert "`orchestrator launch` makes one" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == ([runs] if there else [])


def test_a_deleted_sweep_takes_its_view_and_its_data_along(shipped: Path) -> None:
    other = simulated_sweep(shipped.parent / "sim-00000001", trials=2)
    sync(other, log=lambda line: None)
    with tracked_runs(view_of(shipped).opened, shipped) as runs:
        runs.delete()
    assert set(tags(shipped.parent)) == {f"{VIEW_TAG}sim-00000001"}
    with contextlib.closing(sqlite3.connect(shipped.parent / "mlflow.db")) as db:
        left = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("inputs", "input_tags")}
        assert left == {"inputs": 3, "input_tags": 3}, "those of the other sweep: its run and two trials"
        assert db.execute("SELECT count(*) FROM datasets").fetchone() == (1,)
    with tracked_runs(view_of(other).opened, other) as runs:
        runs.delete()
    with contextlib.closing(sqlite3.connect(shipped.parent / "mlflow.db")) as db:
        held = db.execute("SELECT (SELECT count(*) FROM datasets), (SELECT count(*) FROM experiments)").fetchone()
    assert held == (0, 1), "MLflow's own experiment"


@contextlib.contextmanager
def served(runs: Path, name: str) -> Iterator[str]:
    """The address that `orchestrator dashboard` prints, while it serves."""
    command = [sys.executable, "-m", "orchestrator", "dashboard", name, "--runs-dir", str(runs), "--port", "0"]
    process = subprocess.Popen([*command, "--no-open"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with process.stdout:
            line = next(line for line in process.stdout if "http://" in line)
            yield next(word for word in line.split() if word.startswith("http://"))
    finally:
        process.terminate()
        process.wait(30)


def waited_for(driver: Any, script: str, least: int, seconds: float = 120.0) -> int:
    """What a script counts on the page once it is enough, or the time is up."""
    deadline = time.monotonic() + seconds
    while (found := int(driver.execute_script(f"return {script}"))) < least and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


DRAWN = """[...document.querySelectorAll('.js-plotly-plot')].filter(plot =>
    plot.querySelector('.scatterlayer .point, .scatterlayer .js-line, .barlayer .point')).length"""
PARALLEL = "document.querySelectorAll('canvas').length"


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("trials", [16, 500])
def test_a_fresh_browser_shows_rows_columns_and_charts(tmp_path: Path, trials: int) -> None:
    folder = simulated_sweep(tmp_path / "runs" / "sim-00000000", trials=trials, seed=2)
    sync(folder, log=lambda line: None)
    best = max((t for t in read(folder) if t["best"] is not None), key=lambda trial: trial["best"])
    with (
        served(tmp_path / "runs", "sim") as page,
        browser(tmp_path / "profile", width=2400, height=1500, offline=True) as driver,
    ):
        driver.get(page)
        assert waited_for(driver, "document.querySelectorAll('.ag-center-cols-container .ag-row').length", 10) >= 10
        heads = {head.get_attribute("col-id") for head in driver.find_elements("css selector", ".ag-header-cell")}
        wanted = {"tags.`reason`", "metrics.`best/val_accuracy`", "metrics.`test/accuracy`", "params.`optimizer`"}
        assert wanted <= heads
        text = driver.find_element("css selector", ".ag-root").text
        assert f"{best['trial']} {best['optimizer']} lr=" in text, "the winner, by the name that tells it apart"
        assert f"{best['best']:g}" in text
        assert f"{min(trials, 100)} matching runs" in driver.find_element("css selector", "body").text
        assert "Shared view" not in [error for error in console_errors(driver) if "Error loading" in error]
        driver.get(f"{page}&compareRunsMode=CHART")
        assert waited_for(driver, DRAWN, 4) >= 4
        assert waited_for(driver, PARALLEL, 1) >= 1
        bad = [line for line in console_errors(driver) if not any(known in line for known in KNOWN_COMPLAINTS)]
        assert bad == []


def read(folder: Path) -> list[dict[str, Any]]:
    """Number, optimizer and best value of each trial, from the journal's rows."""
    with contextlib.closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        ends = dict(db.execute("SELECT trial, data FROM events WHERE kind = 'terminal'").fetchall())
        begun = dict(db.execute("SELECT trial, data FROM events WHERE kind = 'suggested'").fetchall())
    return [
        {
            "trial": index,
            "optimizer": json.loads(begun[index])["params"]["optimizer"],
            "best": json.loads(ends[index])["value"],
        }
        for index in begun
    ]
