"""A small trial for the tests of the engine: 4 classes of made-up 8x8 images, trained in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.base.records import Trial

Config = dict[str, Any]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Trials set the threads of the process; give them back, so that other tests find what they expect."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)


@pytest.fixture
def config() -> Callable[..., Config]:
    """Makes a trial's configuration; keywords replace its entries."""

    def make(**changes: Any) -> Config:
        own = "orchestrator.training"
        return {
            "choices": {"data": "synthetic", "model": "mlp", "optimizer": "sgd"},
            "data": {"_target_": f"{own}.data.synthetic.synthetic", "num_examples": 150, "noise": 1.0},
            "model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 12},
            "norm": {},
            "activation": {},
            "init": {},
            "preprocess": {"_target_": f"{own}.preprocess.standardize.standardize"},
            "augment": {},
            "optimizer": {"_target_": f"{own}.optimizers.sgd", "lr": 0.05, "momentum": 0.9},
            "schedule": {"_target_": f"{own}.schedules.constant"},
            "loss": {"_target_": f"{own}.losses.cross_entropy"},
            "penalty": {},
            "transfer": {},
            "early_stopping": {},
            "evaluate": {},
            "clip_grad_norm": None,
            "prune": {},
            "epochs": 4,
            "batch_size": 16,
            "seed": 0,
            "pretrained": None,
            "metric": "val/accuracy",
            "mode": "max",
            "precision": "fp32",
            "device": "cpu",
            "cpus_per_trial": 1,
            "gpus_per_trial": 0,
            "report_every_s": 1.0,
            "data_cache": None,
            "allowed_targets": [],
            "import_paths": [],
        } | changes

    return make


@pytest.fixture
def trial(config: Callable[..., Config], tmp_path: Path) -> Callable[..., Trial]:
    """Makes a trial with a folder of its own; keywords replace entries of its configuration."""

    def make(folder: str = "trial", attempt: int = 1, **changes: Any) -> Trial:
        path = str(tmp_path / folder) if folder else ""
        return Trial("sweep-0123abcd/3", 3, config(**changes), folder=path, attempt=attempt, fence=attempt)

    return make
