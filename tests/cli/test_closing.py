"""The last lines of a sweep, on results made by hand and on a copy of a simulated sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.analysis.findings import findings
from orchestrator.base.records import State
from orchestrator.base.rights import Rights
from orchestrator.cli.closing import best_table, closing_lines
from orchestrator.journal.record import read_sweep
from orchestrator.sweep.session import Result
from orchestrator.verify import Report
from tests.simulated import simulated_sweep


def test_the_end_says_who_won_by_how_much_what_mattered_and_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    folder = simulated_sweep(tmp_path / "runs" / "sim-00000000", trials=120, epochs=6)
    record = read_sweep(folder)
    result = Result(
        uid=record.uid,
        folder=folder,
        totals={State.COMPLETED: 120},
        best=record.summaries()[:5],
        found=findings(record, folder),
        mlflow="sqlite:////somewhere/mlflow.db",
        seconds=1.0,
        closed_for="finished",
        last_error=None,
        max_failed=0.5,
        ship=None,
        waiting_events=0,
        page=folder / "published" / "report-3.html",
        report=Report(),
        diverged=7,
    )
    lines = closing_lines(result, "val/accuracy", Rights())
    text = "\n".join(lines)
    best = record.summaries()[0]["trial"]
    assert f"trial {best} is " in text
    assert "what mattered for being among the best: optimizer.lr" in text
    assert "  choice" in text
    assert "diverged: train/loss is nan at step 37" in text
    assert '  orchestrator.results("sim-00000000")    a pandas frame of the trials' in lines
    assert "  orchestrator show sim-00000000/7    where that trial diverged, and what to try" in lines
    assert not any("orchestrator show" in line for line in closing_lines(replace(result, diverged=None), "x", Rights()))
    assert "tags.sweep_uid = 'sim-00000000'" in lines[-1]
    assert f"its report is      {folder}/published/report-3.html" in lines
    why = lines[lines.index("best trials:") : lines.index(f"everything lies in  {folder}")]
    assert all(len(line) <= 100 for line in why)


def test_ties_carry_a_sign_in_the_table_of_the_best() -> None:
    row = {"value": 0.5, "params": {"p": 1}, "spread": None, "repeats": 1, "selected": None, "epoch": 3, "metrics": {}}
    lines = best_table([{**row, "trial": 4}, {**row, "trial": 7}, {**row, "trial": 1}], "val/accuracy", [7])
    assert [line.split()[:2] for line in lines[1:4]] == [["4", "0.5000"], ["7", "="], ["1", "0.5000"]]
    assert lines[-1] == "= a tie: cannot be told from trial 4"
