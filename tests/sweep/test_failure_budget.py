"""A sweep in which too many trials failed says so and ends with exit code 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from orchestrator.analysis.findings import Findings
from orchestrator.base.errors import EXIT_NO_RESULT, EXIT_OK
from orchestrator.base.records import State
from orchestrator.base.rights import Rights
from orchestrator.cli.running import _closed
from orchestrator.config.planning import plan
from orchestrator.journal.record import Summary
from orchestrator.sweep.session import Result
from orchestrator.verify import Report

BEST: Summary = {
    "trial": 0, "value": 0.9, "params": {}, "spread": None, "repeats": 1, "selected": None, "epoch": 3, "metrics": {},
}  # fmt: skip


def result(totals: Mapping[State, int], max_failed: float = 0.5) -> Result:
    values = {
        "uid": "s-0", "folder": Path("runs/s-0").resolve(), "totals": totals, "best": [BEST], "seconds": 1.0,
        "closed_for": "finished", "last_error": "Traceback ...\nOSError: no data", "max_failed": max_failed, "ship": None,
        "waiting_events": 0, "report": Report(), "page": None, "mlflow": None, "claims": (), "diverged": None,
        "found": Findings("val/accuracy", "max", [], 1, None, [], [], []),
    }  # fmt: skip
    assert set(values) == {field.name for field in fields(Result)}
    return Result(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("totals", "max_failed", "code"),
    [
        ({State.COMPLETED: 4}, 0.5, EXIT_OK),
        ({State.COMPLETED: 2, State.FAILED: 2}, 0.5, EXIT_OK),  # half is allowed
        ({State.COMPLETED: 1, State.FAILED: 2}, 0.5, EXIT_NO_RESULT),
        ({State.COMPLETED: 1, State.FAILED: 11}, 0.5, EXIT_NO_RESULT),  # 92 %
        ({State.COMPLETED: 1, State.DIVERGED: 8, State.INFEASIBLE: 8}, 0.5, EXIT_OK),  # these are results
        ({State.COMPLETED: 9, State.FAILED: 1}, 0.0, EXIT_NO_RESULT),
        ({State.COMPLETED: 1, State.FAILED: 11}, 1.0, EXIT_OK),
    ],
)
def test_the_exit_code_follows_from_the_share_of_failed_trials(
    totals: Mapping[State, int], max_failed: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _closed(result(totals, max_failed), "val/accuracy", Rights()) == code
    said = "of the trials failed, more than max_failed=" in capsys.readouterr().out
    assert said == (code == EXIT_NO_RESULT)


def test_the_share_and_the_last_error_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    _closed(result({State.COMPLETED: 1, State.FAILED: 11}), "val/accuracy", Rights())
    out = capsys.readouterr().out
    assert "92% of the trials failed, more than max_failed=0.5 allows; the last error was:" in out
    assert "OSError: no data" in out


def test_the_budget_is_a_root_key() -> None:
    assert plan(["tracking=none", "data=synthetic"]).root.max_failed == 0.5
    assert plan(["tracking=none", "data=synthetic", "max_failed=0.1"]).root.max_failed == 0.1
