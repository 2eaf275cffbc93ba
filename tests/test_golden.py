"""Sweeps that earlier versions left (tests/golden) resume, verify, load and delete."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

import orchestrator
from orchestrator.cli import main

GOLDEN = Path(__file__).parent / "golden"
MADE_IN = "/tmp/golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected-1.json").read_text())
REPEATS, HALVING, INTERRUPTED = "repeats-7af95fe9", "halving-0dba9c80", "interrupted-2fc3e6d6"


def moved(text: str, to: Path) -> str:
    return text.replace(MADE_IN, str(to))


def place(folder: Path) -> Path:
    """The golden runs folder below `folder`, its absolute paths rewritten as if the sweeps had been made there."""
    with tarfile.open(GOLDEN / "sweeps-1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in folder.glob("runs/*/journal.sqlite"):
        with sqlite3.connect(path) as db:
            rows = db.execute("SELECT seq, time_ms, kind, trial, attempt, data FROM events").fetchall()
            for *row, data in rows:
                data = moved(data, folder)
                crc = zlib.crc32(" ".join(map(str, [*row, data])).encode())
                db.execute("UPDATE events SET data = ?, crc = ? WHERE seq = ?", (data, crc, row[0]))
        db.close()
    with sqlite3.connect(folder / "runs" / "mlflow.db") as db:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("tags", "value"),
            ("params", "value"),
        ):
            db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (MADE_IN, str(folder)))
    db.close()
    return folder / "runs"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return place(tmp_path)


def trials_of(folder: Path) -> list[dict[str, Any]]:
    """What counts of each trial, read from the journal's rows."""
    trials: dict[int, dict[str, Any]] = {}
    with sqlite3.connect(folder / "journal.sqlite") as db:
        rows = db.execute("SELECT kind, trial, data FROM events ORDER BY seq").fetchall()
    db.close()
    for kind, index, text in rows:
        data = json.loads(text)
        if kind == "suggested":
            trials[index] = {"params": data["params"], "seed": data["config"]["seed"], "epochs": []}
        elif kind == "reported":
            trials[index]["epochs"] += [epoch["metrics"] for epoch in data["epochs"]]
        elif kind == "terminal":
            trials[index]["state"] = data["state"]
    return [trials[index] for index in sorted(trials)]


def check_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same parameters and seeds; the same epochs, as far as both trained, to the bit on the same instruction set."""
    assert [(t["params"], t["seed"]) for t in found] == [(t["params"], t["seed"]) for t in expected]
    same_cpu = torch.backends.cpu.get_cpu_capability() == EXPECTED["cpu_capability"]
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one["epochs"], other["epochs"], strict=False):
            got = {key: mine[key] for key in theirs}
            assert got == (theirs if same_cpu else pytest.approx(theirs, rel=0.05, abs=0.05))


@pytest.mark.parametrize("name", [REPEATS, HALVING, INTERRUPTED])
def test_verifies(runs: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", name]) == 0
    assert "verified: 2" in capsys.readouterr().out


@pytest.mark.parametrize("name", [f"{REPEATS}/6", f"{HALVING}/3", f"{INTERRUPTED}/0"])
def test_loads(runs: Path, name: str) -> None:
    model = orchestrator.load_model(name)
    assert sum(p.numel() for p in model.parameters()) > 100


def test_trains_again_equal(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"from={HALVING}/5"]) == 0
    said = capsys.readouterr().out
    if torch.backends.cpu.get_cpu_capability() == EXPECTED["cpu_capability"]:
        assert "equal to the recorded trial: yes" in said


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [(INTERRUPTED, []), (REPEATS, ["--more", "1"]), (HALVING, ["--more", "2"])],
    ids=["interrupted", "repeats", "halving"],
)
def test_resumes(runs: Path, name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", name, *arguments]) == 0
    assert "verified: 22/22" in capsys.readouterr().out
    check_equal(trials_of(runs / name), EXPECTED["sweeps"][name])


def test_deletes(runs: Path) -> None:
    for name in (REPEATS, HALVING, INTERRUPTED):
        assert main(["delete", name, "--yes"]) == 0
        assert not (runs / name).exists()
    with sqlite3.connect(runs / "mlflow.db") as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    db.close()
