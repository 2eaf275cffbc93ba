"""What a process computes with: asked on every node before a sweep begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from orchestrator.training.device import choose_device, computes_bf16

TF32_CAPABILITY = (8, 0)
"""CUDA compute capability of the first devices that multiply in TF32 (Ampere)."""


@dataclass(frozen=True)
class Capability:
    """What a trial's device can do.

    Args:
        device: its type, `cpu` or `cuda`.
        name: of the GPU, or the CPU's instruction set (`AVX2`, `AVX512`): results are the same to the bit only on equal ones.
        bf16: whether it multiplies bf16 matrices in hardware.
        tf32: the same of TF32.
    """

    device: str
    name: str
    bf16: bool
    tf32: bool


def capability(device: str, gpus_per_trial: float) -> Capability:
    """What a trial with these settings would compute with in this process, tried on every device that it sees.

    Raises:
        RuntimeError: the device does not compute, or a GPU is reserved and CUDA has none to use.
    """
    if device == "auto" and gpus_per_trial > 0:
        device = "cuda"  # so that a GPU that cannot be used is an error, where `auto` would fall back to the CPU
    chosen = choose_device({"device": device, "gpus_per_trial": gpus_per_trial})
    for place in _devices(chosen):
        _compute(place)
    is_cuda = chosen.type == "cuda"
    return Capability(
        device=chosen.type,
        name=torch.cuda.get_device_name(chosen) if is_cuda else torch.backends.cpu.get_cpu_capability(),
        bf16=computes_bf16(chosen, "auto"),
        tf32=is_cuda and torch.cuda.get_device_capability(chosen) >= TF32_CAPABILITY,
    )


def _devices(chosen: torch.device) -> list[torch.device]:
    if chosen.type != "cuda" or chosen.index is not None:
        return [chosen]
    return [torch.device("cuda", index) for index in range(max(1, torch.cuda.device_count()))]


def _compute(device: torch.device) -> None:
    """Raise RuntimeError unless the device multiplies matrices."""
    try:
        product = torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
        right = product.sum().item() == 8**3
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise RuntimeError(f"{device} cannot be used: {str(error).strip().splitlines()[0]}") from error
    if not right:
        raise RuntimeError(f"{device} computes wrong numbers")
