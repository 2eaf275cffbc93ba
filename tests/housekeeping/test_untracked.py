"""A trial of a sweep that MLflow knows nothing of, and whose weights are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.base import errors
from orchestrator.cli import main
from tests.simulated import simulated_sweep


def test_a_trial_of_an_untracked_sweep_names_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated_sweep(tmp_path / "sim-00000000", trials=3, epochs=2)
    for name in ("sim/0", "sim"):
        assert main(["show", name, "--runs-dir", str(tmp_path)]) == 0
        assert "not used (tracking=none)" in capsys.readouterr().out
    simulated_sweep(tmp_path / "told-00000000", trials=3, epochs=2, tracking="local")
    assert main(["show", "told/0", "--runs-dir", str(tmp_path)]) == 0
    assert "not used" not in capsys.readouterr().out


def test_diagnose_says_how_to_look_at_a_trial_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated_sweep(tmp_path / "sim-00000000", trials=3, epochs=2)
    assert main(["diagnose", "from=sim/0", "--runs-dir", str(tmp_path)]) == errors.EXIT_NOT_READY
    assert "--initial looks at it as it was before its training" in capsys.readouterr().err
