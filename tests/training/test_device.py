from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.training.device import (
    _cpu_has_amx,
    autocast,
    choose_device,
    computes_bf16,
    derive_seed,
    ran_on,
    seed_everything,
    set_up,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh_look_at_the_cpu() -> Iterator[None]:
    _cpu_has_amx.cache_clear()
    yield
    _cpu_has_amx.cache_clear()


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
    there = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device(config(device="auto", gpus_per_trial=None)) == there
    assert choose_device(config(device="cuda:1")) == torch.device("cuda:1")


@pytest.mark.parametrize("has_amx", [True, False])
def test_precision_auto_on_a_cpu_follows_amx(has_amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": has_amx})
    assert computes_bf16(CPU, "auto") == has_amx
    assert computes_bf16(CPU, "bf16")
    assert autocast(CPU, "fp32") is None


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of auto, fp32, tf32, bf16, got fp16"):
        computes_bf16(CPU, "fp16")


def test_tf32_is_off_unless_asked_for_and_no_cpu_has_it() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    set_up(CPU, 1, "fp32")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(
        ValueError, match=r"precision=tf32 needs an NVIDIA GPU of compute capability 8\.0.*got device cpu"
    ):
        set_up(CPU, 1, "tf32")


@pytest.mark.parametrize("has_amx", [True, False])
def test_what_auto_became_is_told(has_amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": has_amx})
    set_up(CPU, 1, "auto")
    assert ran_on(CPU, "auto")["precision"] == ("bf16" if has_amx else "fp32")


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("precision", "least", "most"), [("fp32", 0.0, 1e-5), ("tf32", 1e-5, 1e-2)])
def test_fp32_on_a_gpu_means_fp32(precision: str, least: float, most: float) -> None:
    """Against a product in float64; TF32 keeps 10 bits of each factor."""
    device = torch.device("cuda", 0)
    set_up(device, 1, precision)
    one = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    expected = one.double() @ one.double()
    got = (one.to(device) @ one.to(device)).cpu().double()
    error = ((got - expected).norm() / expected.norm()).item()
    assert least <= error < most
    set_up(CPU, 1)


@pytest.mark.gpu
@needs_gpu
def test_the_trials_own_gpu_is_seeded() -> None:
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    draws = []
    for _ in range(2):
        seed_everything(7, device)
        draws.append(torch.rand(4, device=device))
    assert torch.equal(*draws)
