from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from tests.serving.trained import config, trained_sweep

Diagnose = Callable[..., tuple[int, str, str]]

BATCH = {"_target_": "models.layers.norm.batch_norm"}
RESIDUAL = {"_target_": "models.residual_mlp.residual_mlp", "units": 6, "width": 24}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sweeps with one sweep: an MLP, a residual and a plain network of six units, all on the digits."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    choices: dict[str, Any] = {"data": "digits", "optimizer": "sgd"}
    units = {
        unit: config(model=RESIDUAL | {"unit": unit}, choices=choices | {"model": "residual_mlp"}, norm=BATCH, epochs=3)
        for unit in ("original", "plain")
    }
    trained_sweep(runs / "digits-00000001", config(), units["original"], units["plain"])
    return runs


@pytest.fixture
def diagnose(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Diagnose:
    """Runs the command in an empty folder; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["diagnose", *words, "--runs-dir", str(trained)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
