"""What only a card shows. Marked `gpu`: they run where one is at hand."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from orchestrator.base.build import build
from orchestrator.base.records import EpochResult, Trial
from orchestrator.training.capability import capability
from orchestrator.training.device import seed_everything
from orchestrator.training.trial import Infeasible, TrialRun

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that CUDA can use on this machine"),
]

ON_GPU = {"device": "auto", "gpus_per_trial": 1}
TOLERANCE = 1e-3
"""Relative, of a loss after a few epochs in fp32: sums are taken in another order on a card."""


@pytest.fixture(autouse=True)
def clean_card() -> Iterator[None]:
    """The card's memory and torch's switches as they were."""
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


def trained(trial: Trial, epochs: int | None = None) -> list[EpochResult]:
    run = TrialRun(trial)
    results = []
    for result in run:
        results.append(result)
        if result.epoch == epochs:
            run.save()
            break
    return results


def losses(results: list[EpochResult]) -> list[float]:
    return [result.metrics["val/loss"] for result in results]


def test_a_reserved_card_is_used_and_agrees_with_the_cpu(trial: Callable[..., Trial]) -> None:
    before = torch.cuda.max_memory_allocated()
    on_gpu = trained(trial("gpu", **ON_GPU))
    assert torch.cuda.max_memory_allocated() > before
    assert losses(on_gpu) == pytest.approx(losses(trained(trial("cpu"))), rel=TOLERANCE)


def test_the_seed_decides(trial: Callable[..., Trial]) -> None:
    first, again, other = (losses(trained(trial("", **ON_GPU, seed=seed))) for seed in (1, 1, 2))
    assert first == pytest.approx(again, rel=TOLERANCE)
    assert first != pytest.approx(other, rel=TOLERANCE)


def test_the_trials_own_card_is_seeded() -> None:
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    drawn = []
    for seed in (1, 1, 2):
        seed_everything(seed, device)
        drawn.append(torch.rand(4, device=device).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_does_not_fit_on_the_card_is_infeasible(trial: Callable[..., Trial]) -> None:
    model = {"_target_": "models.mlp.mlp", "hidden": 2, "width": 8192}  # 256 MiB of weights
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(128 * 2**20 / total)
    try:
        with pytest.raises(Infeasible, match="out of memory"):
            trained(trial("", **ON_GPU, model=model))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_trial_continues_on_the_card(trial: Callable[..., Trial]) -> None:
    whole = trained(trial("whole", **ON_GPU))
    trained(trial("halved", **ON_GPU), epochs=2)
    run = TrialRun(trial("halved", attempt=2, **ON_GPU))
    rest = list(run)
    assert [result.epoch for result in rest] == [3, 4]
    assert losses(rest) == pytest.approx(losses(whole)[2:], rel=TOLERANCE)


def test_bf16_trains_to_finite_losses_near_those_of_fp32(trial: Callable[..., Trial]) -> None:
    if not capability("cuda", 1).bf16:
        pytest.skip("this card does not multiply bf16 in hardware")
    half = losses(trained(trial("bf16", **ON_GPU, precision="bf16")))
    whole = losses(trained(trial("fp32", **ON_GPU)))
    assert all(math.isfinite(loss) for loss in half)
    assert half == pytest.approx(whole, rel=0.1)  # bf16 has 8 bits of mantissa; these are sums over some 40 steps
    assert half != whole


def test_fp32_is_fp32(trial: Callable[..., Trial]) -> None:
    """TF32 keeps 10 bits of a factor's mantissa: 1 + 2^-12 becomes 1."""
    if not capability("cuda", 1).tf32:
        pytest.skip("this card has no TF32")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    trained(trial("", **ON_GPU, precision="fp32", epochs=1))
    factor = torch.full((64, 64), 1 + 2**-12, device="cuda")
    assert (factor @ torch.eye(64, device="cuda"))[0, 0].item() == 1 + 2**-12
    assert not torch.backends.cudnn.allow_tf32


def test_trials_that_are_stopped_leave_no_memory_behind(trial: Callable[..., Trial]) -> None:
    in_use = []
    for index in range(200):
        run = TrialRun(trial("", **ON_GPU, seed=index))
        next(iter(run))
        del run
        in_use.append(torch.cuda.memory_allocated())
    assert max(in_use[100:]) <= max(in_use[:10])


@pytest.mark.parametrize("name", ["mean_image", "whiten"])
def test_preprocessing_on_the_card_is_that_on_the_cpu(name: str) -> None:
    method = build({"_target_": f"orchestrator.training.preprocess.{name}.{name}"})
    images = np.random.RandomState(0).randint(0, 256, (200, 3, 5, 5)).astype(np.uint8)
    transform = method(images)
    on_cpu = transform(torch.from_numpy(images))
    on_card = transform(torch.from_numpy(images).cuda())
    torch.testing.assert_close(on_card.cpu(), on_cpu, atol=1e-4, rtol=1e-4)
