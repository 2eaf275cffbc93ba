"""What is said of a comparison whose winner cannot be a model: how many members lack their weights, and what helps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestrator.base.errors import ConfigError
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.ensembles import record
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.finishing import finish
from orchestrator.ensembles.gathering import gather
from orchestrator.training.checkpoint import pack
from tests.conftest import ROOT
from tests.ensembles.finished import Made, finished_sweep

VALUES = [0.99, 0.97, 0.95, 0.95, 0.9, 0.8]


def lines(tmp_path: Path, kept: int, register: str | None = None) -> list[str]:
    """Of a comparison that the mean of all six wins, of which the first `kept` have weights."""
    trials = [Made(value=value, skill=1.0) for value in VALUES]
    folder = finished_sweep(tmp_path / "many-0a1b2c3d", trials, val=300, test=40)
    for index in range(kept):
        state = {"uid": f"many-0a1b2c3d/{index}", "epoch": 1, "value": 0.5, "inputs": None}
        (trial_folder(folder, index) / BEST).write_bytes(pack({"weight": torch.zeros(2)}, state, stamp=True))
    gathered = gather(["many"], tmp_path)
    found = compare(gathered, methods=["mean"], resamples=100)
    assert found["winner"] == "mean"
    path = record.write(found, tmp_path)
    return [*finish(found, path.parent, gathered.sources, register=register)][1:]


@pytest.mark.parametrize(("kept", "best"), [(3, 2), (4, 4)])
def test_a_filter_takes_those_whose_weights_are_here_and_never_a_part_of_equals(
    tmp_path: Path, kept: int, best: int
) -> None:
    why, again, narrower = lines(tmp_path, kept)
    names = [f"many-0a1b2c3d/{index}" for index in range(kept, 6)]
    shown = ", ".join(names[:3]) + (" and 1 more" if len(names) == 4 else "")
    assert why.startswith(
        f"the winner cannot be kept as a model: the weights of {6 - kept} of its 6 members are not there ({shown}: not kept"
    )
    assert again == "  they come back by training alone; a sweep launched with keep_weights=N keeps those of its N best"
    words = f"metrics.`best/val_accuracy` >= {VALUES[best - 1]}"
    assert narrower == f"  the {best} best have theirs, and this compares them alone:  --filter '{words}'"
    assert len(gather(["many"], tmp_path, filter_string=words).pool) == best


def test_what_cannot_be_a_model_is_not_registered(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--register=best: the winner cannot be kept as a model: the weights of 6 of its 6"
    ):
        lines(tmp_path, 0, register="best")


def test_a_page_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert re.match(r"there is no page: .*comparison\.html cannot be written \(File too large\)", said)
    assert "the winner cannot be kept as a model" in said


def test_a_sweep_that_has_gone_since_costs_neither_page_nor_the_rest(tmp_path: Path) -> None:
    folder = finished_sweep(tmp_path / "many-0a1b2c3d", [Made(), Made()], val=60, test=40)
    gathered = gather(["many"], tmp_path)
    found = compare(gathered, methods=["mean"], resamples=100)
    assert found.get("worst")
    path = record.write(found, tmp_path)
    shutil.move(folder, tmp_path / "elsewhere")
    page, model, *_ = finish(found, path.parent, gathered.sources, register=None)
    assert page == f"page: {path.parent / 'comparison.html'}"
    assert model.startswith("the winner cannot be kept as a model")


CUT_OFF = """
import resource, signal, sys
from pathlib import Path
from orchestrator.ensembles import record
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.finishing import finish
from orchestrator.ensembles.gathering import gather
from tests.ensembles.finished import Made, finished_sweep

runs = Path(sys.argv[1])
finished_sweep(runs / "many-0a1b2c3d", [Made(), Made()], val=60, test=40)
gathered = gather(["many"], runs)
found = compare(gathered, methods=["mean"], resamples=100)
path = record.write(found, runs)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
print(*finish(found, path.parent, gathered.sources, register=None), sep="\\n")
"""
