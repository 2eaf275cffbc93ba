"""The figures of trials with `diagnostics=true` where the driver goes before they are drawn."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from orchestrator.base.layout import PUBLISHED
from orchestrator.base.processes import python
from orchestrator.base.rights import Rights
from orchestrator.cli import main
from orchestrator.journal.finding import find_sweep
from orchestrator.sweep.diagnosis_process import write


@pytest.mark.slow
def test_the_figures_of_a_killed_driver_are_made_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["search=none", "data=synthetic", "model.width=16", "epochs=1", "trials=1", "diagnostics=true"]
    killed = subprocess.run(
        python("-m", "orchestrator", "launch", "name=drawn", *tiny),
        env={**os.environ, "ORCHESTRATOR_FAILPOINT": "closing.after:1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    folder = find_sweep(Path("runs"), "drawn")
    page = folder / PUBLISHED / "diagnosis-0.html"
    assert not page.exists()
    assert main(["resume", "drawn"]) == 0
    first = page.read_bytes()
    assert main(["sync", "drawn"]) == 0
    assert [path.read_bytes() for path in Path("runs/artifacts").rglob("diagnosis.html")] == [first]
    assert main(["verify", "drawn"]) == 0
    page.unlink()
    assert main(["resume", "drawn"]) == 0
    assert not page.exists(), "what is recorded is not drawn again"


def test_a_page_that_cannot_be_drawn_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gone-00000001"
    folder.mkdir()
    assert "no sweep of that name" in (write(folder, 0, Rights()) or "")
    assert not list(folder.rglob("*.html*"))
