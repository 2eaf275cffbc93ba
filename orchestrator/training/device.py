"""Where and how exactly a trial computes: device, threads, determinism, precision, seeds."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

PRECISIONS = ("auto", "fp32", "bf16")


def choose_device(config: Mapping[str, Any]) -> torch.device:
    """The device that `device` names; `auto` is the GPU where the trial was given one and there is one, the CPU elsewhere."""
    name = config["device"]
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if config["gpus_per_trial"] > 0 and torch.cuda.is_available() else "cpu")


def set_up(device: torch.device, cpus: float) -> None:
    """Set this process to compute the same bits every time: as many threads as the trial has whole CPUs, at least one, no
    denormals, and on the CPU only deterministic algorithms."""
    threads = max(1, int(cpus))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    # torch.use_deterministic_algorithms does this and imports torch's compiler: 6 s of CPU time (torch 2.15)
    torch._C._set_deterministic_algorithms(device.type == "cpu", warn_only=True)
    torch.backends.mkldnn.deterministic = True  # type: ignore[assignment]
    # filling fresh memory guards against reading it uninitialized and costs a pass over every tensor
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def computes_bf16(device: torch.device, precision: str) -> bool:
    """Whether training runs under bf16 autocast; `auto`: where the hardware multiplies bf16 matrices (CUDA, a CPU with AMX).

    Raises:
        ValueError: not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # private, hence the guard: without it AMX goes unused, nothing breaks
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and has_amx is not None and bool(has_amx())


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any] | None:
    """The reusable context of a training step's forward pass; None for plain fp32, where entering one would be wasted time."""
    return torch.autocast(device.type, torch.bfloat16) if computes_bf16(device, precision) else None


def derive_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """A seed of 63 bits for one purpose in one epoch, so that no generator's state has to be carried across epochs."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, device: torch.device | None = None) -> torch.Generator:
    """A generator of its own, seeded."""
    made = torch.Generator(device if device is not None else "cpu")
    made.manual_seed(seed)
    return made


def seed_everything(seed: int, device: torch.device) -> None:
    """Seed the global generators (Python, NumPy, torch), which initializers and dropout draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed walks every backend and records a stack trace for each: 170 us
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
