"""Where and how exactly a trial computes: device, threads, determinism, precision, seeds."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from orchestrator.training import private

PRECISIONS = ("auto", "fp32", "tf32", "bf16")
"""In `fp32` a GPU multiplies in fp32, too; `tf32` lets it round the factors to 10 bits; `bf16` is autocast, the rest in fp32."""


def choose_device(config: Mapping[str, Any]) -> torch.device:
    """The device that `device` names; `auto` is the GPU where the trial was given one and there is one, the CPU elsewhere."""
    name = config["device"]
    if name != "auto":
        return torch.device(name)
    given = config["gpus_per_trial"]  # None where nobody has decided: a trial outside a sweep takes what is there
    return torch.device("cuda" if (given is None or given > 0) and torch.cuda.is_available() else "cpu")


def set_up(device: torch.device, cpus: float, precision: str = "fp32") -> None:
    """Set this process to compute the same bits every time: as many threads as the trial has whole CPUs, at least one, no
    denormals, TF32 only where it is asked for, and on the CPU only deterministic algorithms.

    Raises:
        ValueError: the device has no such precision.
    """
    check_precision(device, precision)
    threads = max(1, int(cpus))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    private.set_deterministic(device.type == "cpu")
    torch.backends.mkldnn.deterministic = True  # type: ignore[assignment]
    # filling fresh memory guards against reading it uninitialized and costs a pass over every tensor
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # both, and by these names: torch refuses to read one of two that differ, and its newer names cannot be mixed with these
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


@contextmanager
def set_up_here(device: torch.device, cpus: float) -> Iterator[None]:
    """As `set_up` for as long as the block lasts: what is computed around it, or timed, is not touched."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    of_mkldnn = torch.backends.mkldnn.deterministic
    set_up(device, cpus)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)  # torch's own default; nothing tells how it was
        private.set_deterministic(deterministic)
        torch.backends.mkldnn.deterministic = of_mkldnn


def check_precision(device: torch.device, precision: str) -> None:
    """Raise ValueError unless `precision` is one of `PRECISIONS` and `device` has it; bf16 is emulated where need be."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
    if precision == "tf32" and device.type != "meta" and not _has_tf32(device):
        raise ValueError(f"precision=tf32 needs an NVIDIA GPU of compute capability 8.0 or later, got device {device}")


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def ran_on(device: torch.device, precision: str) -> dict[str, Any]:
    """What decides about the last digits of a result, and what `auto` became: plain data for the record of an attempt.

    `device` (`cpu`, or the GPU's name), `precision` (`fp32`, `tf32`, `bf16`), `cpu_capability` (the instruction set that torch's
    kernels use), `threads`, `tf32` (whether matrix products and convolutions of the GPU may use it), `torch` (the version).
    """
    resolved = "bf16" if computes_bf16(device, precision) else "fp32" if precision == "auto" else precision
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": resolved,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "torch": torch.__version__,
    }


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
    return device.type == "cpu" and _cpu_has_amx()


@functools.lru_cache
def _cpu_has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_tile", False))


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
        with torch.cuda.device(device):  # the trial's own, which need not be the current one
            torch.cuda.manual_seed(seed)
