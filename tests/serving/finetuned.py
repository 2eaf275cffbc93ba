"""Trials that go on from one trained network, as the ingredients of soups do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from orchestrator.base.layout import BEST, trial_folder
from tests.serving.trained import config, trained_sweep
from tests.synthetic import Sweep

NORM = {"_target_": "models.layers.norm.batch_norm"}


def finetuned(runs: Path, trials: int, *, name: str = "tuned-0000aaaa", **changes: Any) -> tuple[Sweep, list[Any]]:
    """A sweep below `runs` of small networks with batch normalization, and the configurations of its trials.

    Each differs in seed and learning rate; all begin with the first trial of another sweep there.
    """
    common: dict[str, Any] = {"norm": NORM, "model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 12}} | changes
    start = trained_sweep(runs / "start-0000aaaa", config(**common, epochs=1))
    path = trial_folder(start.folder, 0) / BEST
    file = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    tuned = common | {"pretrained": str(path), "pretrained_files": {str(path): file}}
    sgd = {"_target_": "orchestrator.training.optimizers.sgd", "momentum": 0.9}
    configs = [
        config(**tuned, seed=seed + 1, optimizer=sgd | {"lr": 0.05 / (seed + 1)}, epochs=2) for seed in range(trials)
    ]
    return trained_sweep(runs / name, *configs), configs
