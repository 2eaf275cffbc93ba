"""`orchestrator results`: what it prints for people and for programs, read back with pandas and json."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import orchestrator
from orchestrator.analysis.tables import TRIAL_COLUMNS, trial_rows
from orchestrator.base import errors
from orchestrator.base.processes import python
from orchestrator.base.text import say
from orchestrator.cli import main
from orchestrator.cli.tabling import as_csv, as_json, table_lines
from orchestrator.journal.record import read_sweep
from tests.simulated import simulated_sweep


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    simulated_sweep(folder / "sim-00000000", trials=100, epochs=20)
    return folder


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["results", *argv]) == errors.EXIT_OK
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_fits_the_terminal_and_begins_with_the_best(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = output(capsys, "sim", "--runs-dir", str(runs), "--rows", "12").splitlines()
    best = read_sweep(runs / "sim-00000000").closed.best  # type: ignore[union-attr]
    assert best is not None
    assert lines[2].split()[:3] == ["trial", "state", "val/accuracy"]
    assert lines[3].split()[:3] == [str(best["trial"]), "completed", f"{best['value']:.4f}"]
    assert all(len(line) <= columns for line in lines[2:])
    assert "optimizer.lr" in lines[2] if columns == 200 else " lr " in lines[2]
    assert any(line.startswith("and 88 trials more: --rows 100") for line in lines)


def test_states_are_counted_and_ties_are_marked(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = output(capsys, "sim", "--runs-dir", str(runs), "--rows", "100")
    frame = orchestrator.results("sim", runs_dir=runs)
    counts = {str(state): int(count) for state, count in frame["state"].value_counts().items() if count}
    assert all(f"{count} {state}" in out.splitlines()[0] for state, count in counts.items())
    assert "= a tie: cannot be told from trial" in out
    assert "what mattered" in out
    assert f"{counts['diverged']} diverged: train/loss is nan at step 37" in out


def test_csv_is_the_frame(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = pd.read_csv(
        io.StringIO(output(capsys, "sim", "--runs-dir", str(runs), "--csv")), parse_dates=["began", "ended"]
    )
    frame = orchestrator.results("sim", runs_dir=runs)
    assert list(read) == list(frame)
    pd.testing.assert_frame_equal(read.astype(frame.dtypes), frame)


def test_json_is_the_frame_and_holds_no_nan(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = output(capsys, "sim", "--runs-dir", str(runs), "--json")
    rows = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    frame = orchestrator.results("sim", runs_dir=runs)
    assert [row["trial"] for row in rows] == frame["trial"].tolist()
    assert [row["value"] for row in rows if row["value"] is not None] == frame["value"].dropna().tolist()
    assert any(row["params.optimizer.momentum"] is None for row in rows)


@pytest.mark.parametrize("as_json", [False, True])
def test_epochs_are_the_frame_of_epochs(runs: Path, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    out = output(capsys, "sim", "--runs-dir", str(runs), "--epochs", *(["--json"] if as_json else []))
    read = pd.DataFrame(json.loads(out)) if as_json else pd.read_csv(io.StringIO(out))
    frame = orchestrator.epochs("sim", runs_dir=runs)
    assert read["val/accuracy"].tolist() == frame["val/accuracy"].tolist()
    assert pd.to_datetime(read["time"]).tolist() == frame["time"].tolist()


def test_without_a_name_it_is_the_newest(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--runs-dir", str(runs)).startswith("sim-00000000: ")


def test_what_cannot_be_shown_is_said(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["results", "smi", "--runs-dir", str(runs)]) == errors.EXIT_BAD_INPUT
    assert "did you mean sim" in capsys.readouterr().err
    for nothing in (tmp_path, tmp_path / "nowhere"):
        assert main(["results", "sim", "--runs-dir", str(nothing)]) == errors.EXIT_BAD_INPUT
        assert "orchestrator launch" in capsys.readouterr().err
    assert main(["results", "sim", "--csv", "--json"]) == errors.EXIT_BAD_INPUT
    assert main(["results", "sim", "--rows", "0", "--runs-dir", str(runs)]) == errors.EXIT_BAD_INPUT
    assert not list(tmp_path.iterdir())


def test_hostile_values_act_on_no_terminal_and_break_no_row(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_sweep(runs / "sim-00000000")
    record.trials[0].params = {"<b>\x1b[31m": 'a"b,\nc\x07' + "x" * 10_000, "n": 1e308}
    record.trials[1].reason = "\u202egnp.exe\nsecond"
    for line in table_lines(record, runs / "sim-00000000", 100):
        say(line)
    assert not {"\x1b", "\x07", "\u202e"} & set(capsys.readouterr().out)
    rows = trial_rows(record)
    read = pd.read_csv(io.StringIO("\n".join(as_csv(rows, TRIAL_COLUMNS))))
    assert read["params.<b>\x1b[31m"].dropna().tolist() == ['a"b,\nc\x07' + "x" * 10_000]
    assert len(read) == 100
    assert json.loads("\n".join(as_json(rows))) == rows
    assert as_json([]) == ["[]"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without room")
@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_an_export_that_was_cut_off_is_no_success(runs: Path, form: str) -> None:
    with open("/dev/full", "w") as full:
        command = python("-m", "orchestrator", "results", form, "--runs-dir", str(runs))
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 3
    assert "could not be written in full (No space left on device)" in ended.stderr
