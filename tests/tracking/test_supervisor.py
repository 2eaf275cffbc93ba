"""A driver's shipper is kept going."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.failpoints import VARIABLE
from orchestrator.journal.cursor import is_shipping
from orchestrator.tracking.supervisor import Supervisor


def test_a_shipper_that_dies_while_the_driver_waits_for_it_is_started_again(
    new_sweep: Any, tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"cursor.before:1:{tmp_path / 'killed'}")
    sweep = new_sweep()
    supervisor = Supervisor(sweep.folder, enabled=True)
    sweep.run_trial(0)
    sweep.finish(1)
    status, waiting = supervisor.finish(30.0)
    assert (tmp_path / "killed").exists()
    assert status is not None
    assert (status.shipped, waiting) == (sweep.journal.last_seq, 0)
    assert [row[1] for row in tables()["runs"]] == ["FINISHED", "FINISHED"]
    assert not is_shipping(sweep.folder)
