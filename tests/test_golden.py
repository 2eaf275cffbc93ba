"""Sweeps that earlier versions left (tests/golden) resume, verify, load and delete."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import orchestrator
from orchestrator.cli import main

GOLDEN = Path(__file__).parent / "golden"
MADE_IN = "/tmp/golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected-1.json").read_text())
REPEATS, HALVING, INTERRUPTED = "repeats-7af95fe9", "halving-0dba9c80", "interrupted-2fc3e6d6"


def rewrite(journal: Path, change: Callable[[str], str]) -> None:
    """Changes the data of every event, with the check sum that belongs to it."""
    with sqlite3.connect(journal) as db:
        rows = db.execute("SELECT seq, time_ms, kind, trial, attempt, data FROM events").fetchall()
        for *row, data in rows:
            data = change(data)
            crc = zlib.crc32(" ".join(map(str, [*row, data])).encode())
            db.execute("UPDATE events SET data = ?, crc = ? WHERE seq = ?", (data, crc, row[0]))
    db.close()


def place(folder: Path) -> Path:
    """The golden runs folder below `folder`, its absolute paths rewritten as if the sweeps had been made there."""
    with tarfile.open(GOLDEN / "sweeps-1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in folder.glob("runs/*/journal.sqlite"):
        rewrite(path, lambda data: data.replace(MADE_IN, str(folder)))
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
    """The same parameters and seeds; the same epochs, as far as both trained, to the bit on the same instruction set.

    On another one the first epoch is nearly the same: what rounds differently grows where the learning rate is too high. What
    a sampler computes by numpy's exponentials and products may differ in its last digit between processors of one instruction
    set, so that the epochs of such a trial are not compared.
    """
    same_cpu = torch.backends.cpu.get_cpu_capability() == EXPECTED["cpu_capability"]
    for one, other in zip(found, expected, strict=True):
        assert one["seed"] == other["seed"]
        assert one["params"].keys() == other["params"].keys()
        for key, value in one["params"].items():
            close = pytest.approx(other["params"][key], rel=1e-12) if isinstance(value, float) else other["params"][key]
            assert value == close, key
        for place, (mine, theirs) in enumerate(zip(one["epochs"], other["epochs"], strict=False)):
            got = {key: mine[key] for key in theirs}
            if same_cpu and one["params"] == other["params"]:
                assert got == theirs
            elif not place and one["params"] == other["params"]:
                assert got == pytest.approx(theirs, rel=0.05, abs=0.05)


@pytest.mark.parametrize("name", [REPEATS, HALVING, INTERRUPTED])
def test_verifies(runs: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", name]) == 0
    assert "verified: 2" in capsys.readouterr().out


@pytest.mark.parametrize("name", [f"{REPEATS}/6", f"{HALVING}/3", f"{INTERRUPTED}/0"])
def test_loads(runs: Path, name: str) -> None:
    model = orchestrator.load_model(name).network
    assert sum(p.numel() for p in model.parameters()) > 100


def test_trains_again_equal(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"from={HALVING}/5"]) == 0
    said = capsys.readouterr().out
    if torch.backends.cpu.get_cpu_capability() == EXPECTED["cpu_capability"]:
        assert "equal to the recorded trial: yes" in said


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param(INTERRUPTED, [], id="interrupted"),
        pytest.param(REPEATS, ["--more", "1"], id="repeats", marks=pytest.mark.slow),
        pytest.param(HALVING, ["--more", "2"], id="halving", marks=pytest.mark.slow),
    ],
)
def test_resumes(runs: Path, name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", name, *arguments]) == 0
    assert "verified: 26/26" in capsys.readouterr().out
    check_equal(trials_of(runs / name), EXPECTED["sweeps"][name])


def test_deletes(runs: Path) -> None:
    for name in (REPEATS, HALVING, INTERRUPTED):
        assert main(["delete", name, "--yes"]) == 0
        assert not (runs / name).exists()
    with sqlite3.connect(runs / "mlflow.db") as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    db.close()


FORMAT_2 = json.loads((GOLDEN / "expected-2.json").read_text())


@pytest.fixture
def in_format_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds the sweeps of format 2."""
    monkeypatch.chdir(tmp_path)
    with tarfile.open(GOLDEN / "sweeps-2.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")


@pytest.mark.usefixtures("ray_cluster", "in_format_2")
def test_sweeps_of_format_2_verify_load_resume_and_delete_wherever_they_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, cut = FORMAT_2["ended"], FORMAT_2["cut"]
    for name in (ended, cut):
        assert main(["verify", name]) == 0
    assert sum(p.numel() for p in orchestrator.load_model(f"{ended}/0").network.parameters()) > 100
    assert main(["resume", cut]) == 0
    assert re.search(r"verified: (\d+)/\1\n", capsys.readouterr().out)
    check_equal(trials_of(tmp_path / "runs" / cut), FORMAT_2["sweeps"][cut])
    assert main(["verify", ended]) == 0
    for name in (ended, cut):
        assert main(["delete", name, "--yes"]) == 0
    with sqlite3.connect(tmp_path / "runs" / "mlflow.db") as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    db.close()


@pytest.mark.usefixtures("in_format_2")
def test_an_adopted_copy_verifies_deeply_and_keeps_its_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sync", FORMAT_2["ended"]]) == 0  # the folder is at home here from now on
    shutil.copytree("runs", "copy")
    assert main(["adopt", "copy"]) == 0
    (name,) = (path.name for path in Path("copy").glob("second-*"))
    assert main(["verify", name, "--deep", "--runs-dir", "copy"]) == 0
    with sqlite3.connect("copy/mlflow.db") as db:
        db.execute(
            "DELETE FROM tags WHERE key = 'mlflow.note.content' AND run_uuid IN (SELECT run_uuid FROM runs WHERE name = ?)",
            (name,),
        )
    db.close()
    capsys.readouterr()
    assert main(["verify", name, "--runs-dir", "copy"]) == 7
    assert "its description is" in capsys.readouterr().out


COMMANDS = ["verify", "sync", "stop"]
PIPES = [
    "lock",
    "tracking/cursor.json",
    "sweep.json",
    "trials/00000/best.safetensors",
    "trials/00000/artifacts/predictions.safetensors",
]


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.usefixtures("in_format_2")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    sweep = FORMAT_2["ended"]
    path = tmp_path / "runs" / sweep / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    def hangs(*args: object) -> None:
        raise AssertionError(f"a command waits for {name}")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    try:
        for command in (
            ["status"],
            ["status", sweep],
            ["show", f"{sweep}/0"],
            ["verify", sweep],
            ["sync", sweep],
            ["stop", sweep],
        ):
            assert main(command) in (0, 2, 3, 7), command
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# versions between


ADDED_SINCE = {"max_retries", "precision", "candidates", "experiment", "dropout", "nesterov"}
"""Root keys and arguments as if a version had added them after the sweep was made, which has their defaults."""


def as_before(data: str) -> str:
    """The data of an event as a version without `ADDED_SINCE` would have written them."""

    def without(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: without(value) for key, value in tree.items() if key not in ADDED_SINCE}
        return [without(item) for item in tree] if isinstance(tree, list) else tree

    plain = json.loads(data)
    if plain.get("plan"):
        plain["plan"] = json.dumps(without(json.loads(plain["plan"])))
    return json.dumps(without(plain))


@pytest.fixture
def older(runs: Path) -> Path:
    """The sweep that halves, as a version before `ADDED_SINCE` would have left it."""
    rewrite(runs / HALVING / "journal.sqlite", as_before)
    with sqlite3.connect(runs / "mlflow.db") as db:
        for name in ADDED_SINCE:
            db.execute("DELETE FROM params WHERE key = ? OR key LIKE ?", (name, f"%.{name}"))
    db.close()
    for path in (runs / "artifacts").rglob("config.yaml"):
        path.write_text(yaml.safe_dump(json.loads(as_before(json.dumps(yaml.safe_load(path.read_text()))))))
    return runs


def test_what_an_older_version_lacks_is_taken_away(older: Path) -> None:
    with sqlite3.connect(older / HALVING / "journal.sqlite") as db:
        (opened,) = db.execute("SELECT data FROM events WHERE kind = 'sweep_opened'").fetchone()
        (suggested,) = db.execute("SELECT data FROM events WHERE kind = 'suggested'").fetchone()
    db.close()
    plan, config = json.loads(json.loads(opened)["plan"]), json.loads(suggested)["config"]
    assert "precision" not in plan["settings"]
    assert "precision" not in plan["base"]
    assert plan["sampler"].keys() == {"_target_", "startup_trials"}
    assert plan["tracking"].keys() == {"_target_", "uri", "artifacts"}
    assert config["model"].keys() == {"_target_", "stages", "width"}
    assert "precision" not in config


def test_a_sweep_of_an_older_version_verifies_loads_and_trains_again(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", HALVING]) == 0
    assert "verified: 2" in capsys.readouterr().out
    assert sum(p.numel() for p in orchestrator.load_model(f"{HALVING}/3").network.parameters()) > 100
    assert main(["train", f"from={HALVING}/5"]) == 0
    if torch.backends.cpu.get_cpu_capability() == EXPECTED["cpu_capability"]:
        assert "equal to the recorded trial: yes" in capsys.readouterr().out


@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_of_an_older_version_resumes(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", HALVING, "--more", "2"]) == 0
    assert "verified: 26/26" in capsys.readouterr().out
    check_equal(trials_of(older / HALVING), EXPECTED["sweeps"][HALVING])


ROOT_KEY = "    echo: int = field(metadata=_is(least=0, of_trial=True, searchable=True, shown=True))\n"

LATER = """
import torch  # so that plans are made in this process

import orchestrator
from orchestrator.base.settings import ROOT_KEYS
from orchestrator.cli import main

assert "echo" in ROOT_KEYS
name = "interrupted-2fc3e6d6"
assert main(["verify", name]) == 0
assert main(["resume", name, "echo=1"]) == 2
assert main(["resume", name]) == 0
assert main(["verify", name]) == 0
assert main(["train", f"from={name}/0"]) == 0
assert main(["train", f"from={name}/0", "echo=2", "model.gain=2.0"]) == 0
assert sum(p.numel() for p in orchestrator.load_model(f"{name}/0").network.parameters()) > 100
assert main(["delete", name, "--yes"]) == 0
"""


@pytest.fixture
def later_version(tmp_path: Path) -> Path:
    """A copy of the program with one more root key, and one more argument of a model and of a scheduler."""
    root = Path(__file__).resolve().parents[1]
    for folder in ("orchestrator", "models", "conf"):
        shutil.copytree(root / folder, tmp_path / "later" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, before, after in (
        ("orchestrator/base/settings.py", r"(?m)^    device: str = .*\n", rf"\g<0>{ROOT_KEY}"),
        ("conf/launch.yaml", r"\Z", "echo: 0\n"),
        ("models/resnet.py", r"(?s)(def resnet_cifar\(.*?)    depth: int = 20,\n", r"\g<0>    gain: float = 1.0,\n"),
        ("orchestrator/scheduling/schedulers/asha.py", r"    grace_epochs: int = 1\n", r"\g<0>    patience: int = 0\n"),
    ):
        text = (tmp_path / "later" / path).read_text()
        changed, count = re.subn(before, after, text, count=1)
        assert count == 1, path
        (tmp_path / "later" / path).write_text(changed)
    return tmp_path / "later"


@pytest.mark.slow
def test_a_root_key_and_arguments_are_added_in_one_place_and_stop_nothing(runs: Path, later_version: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATER],
        cwd=runs.parent,
        env={**os.environ, "PYTHONPATH": str(later_version)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "echo: may not change when a sweep is resumed; launch a new one for it (was 0, would be 1)" in done.stderr
    if torch.backends.cpu.get_cpu_capability() == EXPECTED["cpu_capability"]:
        assert "equal to the recorded trial: yes" in done.stdout
