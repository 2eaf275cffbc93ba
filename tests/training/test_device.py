from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.training.device import autocast, choose_device, computes_bf16, derive_seed, seed_everything, set_up

CPU = torch.device("cpu")


def test_seeds_differ_by_seed_purpose_and_epoch_and_stay_the_same() -> None:
    seeds = [derive_seed(seed, purpose, epoch) for seed in (0, 1) for purpose in ("order", "model") for epoch in (1, 2)]
    assert len(set(seeds)) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "order", 1) == seeds[0]


def test_global_generators_repeat() -> None:
    def draws() -> tuple[float, float, float]:
        seed_everything(derive_seed(3, "model", 1), CPU)
        return random.random(), float(np.random.rand()), torch.rand(()).item()

    assert draws() == draws()


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1, 1), (2.0, 2)])
def test_threads_are_the_whole_cpus_and_at_least_one(cpus: float, threads: int) -> None:
    set_up(CPU, cpus)
    assert torch.get_num_threads() == threads


def test_auto_takes_no_gpu_that_the_trial_was_not_given(config: Callable[..., dict[str, Any]]) -> None:
    assert choose_device(config(device="auto", gpus_per_trial=0)) == CPU
    assert choose_device(config(device="cuda:1")) == torch.device("cuda:1")


@pytest.mark.parametrize("has_amx", [True, False])
def test_precision_auto_on_a_cpu_follows_amx(has_amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
    assert computes_bf16(CPU, "auto") == has_amx
    assert computes_bf16(CPU, "bf16")
    assert autocast(CPU, "fp32") is None


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of auto, fp32, bf16, got fp16"):
        computes_bf16(CPU, "fp16")
