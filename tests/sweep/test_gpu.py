"""Sweeps on a card. Marked `gpu`: they run where one is at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.base.layout import JOURNAL
from orchestrator.config.machine import gpus
from orchestrator.journal.events import SweepOpened, Terminal
from orchestrator.journal.file import Reader

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not gpus(), reason="no GPU on this machine")]

SMALL = [
    "data=synthetic",
    "model=mlp",
    "model.width=12",
    "batch_size=16",
    "epochs=3",
    "tracking=none",
    "max_concurrent=4",
]


@pytest.mark.parametrize(
    ("share", "at_a_time"), [([], 1), (["gpus_per_trial=0.5"], 2), (["gpus_per_trial=0.25"], 4)], ids=["1", "2", "4"]
)
def test_trials_share_a_card(share: list[str], at_a_time: int, tmp_path: Path) -> None:
    """Without a word about GPUs, each trial has one of its own."""
    one = ["trials=8", "cpus_per_trial=0.25", "optimizer.lr=tag(log,interval(1e-2,1))"]
    command = [sys.executable, "-m", "orchestrator", "launch", *SMALL, *one, *share]
    environment = {"CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{at_a_time} at a time" in done.stdout
    (journal,) = tmp_path.glob(f"runs/*/{JOURNAL}")
    reader = Reader(journal)
    try:
        opened, *events = [entry.event for entry in reader.events()]
    finally:
        reader.close()
    assert isinstance(opened, SweepOpened)
    (kind,) = opened.environment["computes_on"]
    assert kind.startswith("cuda ")
    assert opened.environment["precision"] in ("fp32", "bf16")
    assert json.loads(opened.plan)["settings"]["gpus_per_trial"] == 1 / at_a_time
    assert [event.state for event in events if isinstance(event, Terminal)] == ["completed"] * 8
