"""Files put into a run's folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.stores.artifacts import put
from orchestrator.stores.runs import Artifact, RefusedError, UnavailableError
from orchestrator.tracking.shipper import Shipper


def test_a_file_is_linked_and_a_text_is_written(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_bytes(b"logits")
    for _ in range(2):
        put(Artifact("predictions", path=tmp_path / "predictions"), tmp_path / "run")
        put(Artifact("config.yaml", text="lr: 1\n"), tmp_path / "run")
    assert (tmp_path / "run" / "predictions").samefile(tmp_path / "predictions")
    assert (tmp_path / "run" / "config.yaml").read_text() == "lr: 1\n"
    assert len(list((tmp_path / "run").iterdir())) == 2


def test_what_a_killed_shipper_half_put_is_put_again_and_nothing_stays(tmp_path: Path) -> None:
    source, folder = tmp_path / "predictions", tmp_path / "run"
    source.write_bytes(b"logits")
    folder.mkdir()
    os.link(source, folder / "predictions.tmp")
    (folder / "config.yaml.tmp").write_text("lr")
    put(Artifact("predictions", path=source), folder)
    put(Artifact("config.yaml", text="lr: 1\n"), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "predictions"]
    assert source.read_bytes() == (folder / "predictions").read_bytes() == b"logits"
    assert (folder / "config.yaml").read_text() == "lr: 1\n"


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="predictions is gone"):
        put(Artifact("predictions", path=tmp_path / "predictions"), tmp_path / "run")


def test_a_file_that_cannot_be_copied_once_is_shipped_with_its_run_the_next_time(
    new_sweep: Any, ship: Any, tables: Any, tmp_path: Path
) -> None:
    """The runs of a batch whose files failed were taken for stored, and their rows referred to no run from then on."""
    sweep = new_sweep()
    sweep.run_trial(0)
    sweep.journal.commit()
    (sweep.folder / "tracking").mkdir()
    (tmp_path / "artifacts").write_text("a file where the folder should be")
    with contextlib.closing(Shipper(sweep.folder)) as shipper:
        with pytest.raises(UnavailableError, match="cannot write"):
            shipper.ship_everything()
        (tmp_path / "artifacts").unlink()
        assert shipper.ship_everything() == sweep.journal.last_seq
    assert [row[0] for row in tables()["runs"]] == [sweep.uid, f"{sweep.uid}/0"]
    assert len(list((tmp_path / "artifacts").rglob("predictions.safetensors"))) == 1
