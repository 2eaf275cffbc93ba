"""What a sweep leaves on disk, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.config.machine import check_space, footprint

RESNET_50 = 25_557_032  # parameters, He et al. 2016; 102,228,128 bytes


def test_a_thousand_trials_of_a_large_model_leave_what_retention_keeps() -> None:
    """10 x 102 MB are kept; 2 trials at work hold 9 x 102 MB each; 1,000 x 10,000 predictions take 40 + 16 bytes."""
    left = footprint(
        trials=1_000, repeat=1, keep_weights=10, at_a_time=2, parameters=RESNET_50, examples=10_000, classes=10
    )
    assert (left.kept, left.running, left.predictions) == (1_022_281_280, 1_840_106_304, 560_000_000)
    assert left.total == 3_422_387_584


def test_every_repeat_of_a_kept_configuration_counts_and_no_more_than_there_are() -> None:
    left = footprint(trials=3, repeat=5, keep_weights=10, at_a_time=1, parameters=100, examples=7, classes=4)
    assert (left.kept, left.running, left.predictions) == (3 * 5 * 400, 9 * 400, 3 * 5 * 7 * 32)


def test_a_full_disk_is_refused_with_what_takes_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3_400_000_000))
    left = footprint(
        trials=1_000, repeat=1, keep_weights=10, at_a_time=2, parameters=RESNET_50, examples=10_000, classes=10
    )
    with pytest.raises(NotReadyError, match=r"needs about 3\.4 GB .*kept 1\.0, .*running trials 1\.8, .*0\.6\)"):
        check_space(tmp_path, left)
    check_space(
        tmp_path,
        footprint(
            trials=1_000, repeat=1, keep_weights=9, at_a_time=2, parameters=RESNET_50, examples=10_000, classes=10
        ),
    )


def test_snapshots_are_kept_beside_the_best_weights_and_in_both_checkpoints() -> None:
    left = footprint(
        trials=3, repeat=1, keep_weights=2, at_a_time=1, parameters=100, examples=7, classes=4, snapshots=5
    )
    assert (left.kept, left.running) == (2 * 6 * 400, (9 + 2 * 5) * 400)
