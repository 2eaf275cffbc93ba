"""`orchestrator train` without a sweep, where the machine is not as the configuration wants it."""

from __future__ import annotations

import pytest
import torch

from orchestrator.base.errors import NotReadyError
from orchestrator.sweep.alone import _check_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_reserved_gpu_that_cuda_cannot_use_is_refused_with_the_way_out(device: str) -> None:
    """A driver that is too old leaves the card in the machine, and PyTorch without it."""
    with pytest.raises(
        NotReadyError, match=r"cuda.* cannot be used: .*; gpus_per_trial=0 device=auto trains on the CPU"
    ):
        _check_device({"device": device, "gpus_per_trial": 1.0})
