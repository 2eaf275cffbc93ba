"""Mixup changes images and labels by the same weights, and soft labels reach every loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from orchestrator.base.build import build
from orchestrator.training.augment import Mixing
from orchestrator.training.augment.mixup import mixup
from orchestrator.training.losses.base import Batch, as_loss
from orchestrator.training.trial import train

CONF = Path(__file__).parents[3] / "conf" / "loss"
LOSSES = sorted(path.stem for path in CONF.glob("*.yaml"))


def mixed(labels: torch.Tensor, alpha: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Of images that show their label: one-hot vectors over the rows."""
    method = mixup(alpha=alpha)
    assert isinstance(method, Mixing)
    images = F.one_hot(labels, 5).float().view(-1, 1, 5, 1)
    return method.mix(images, labels, 5, torch.Generator().manual_seed(0))


def test_images_and_labels_are_mixed_by_the_same_weights() -> None:
    labels = torch.arange(400) % 5
    images, soft = mixed(labels)
    assert torch.allclose(images[:, 0, :, 0], soft, atol=1e-6)
    assert torch.allclose(soft.sum(1), torch.ones(400), atol=1e-6)
    assert (soft.min(), soft.dtype) == (0, torch.float32)
    assert ((soft > 0.01).sum(1) == 2).float().mean() > 0.7, "most are mixed of two classes"


def test_each_example_is_a_partner_once() -> None:
    """In total no class gains or loses but by the differences of weights: the partners are a permutation."""
    _, soft = mixed(torch.arange(5), alpha=100.0)  # weights near a half
    assert (soft.sum(0) - 1).abs().max() < 0.3
    assert torch.allclose(soft.sum(), torch.tensor(5.0))


@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_soft_labels_are_labels_for_every_loss(name: str) -> None:
    spec = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    loss = as_loss(build({key: value for key, value in spec.items() if key != "search"}))
    logits, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5
    of_ids = loss(logits, labels, Batch(torch.zeros(6, 1), labels, torch.arange(6)))
    soft = F.one_hot(labels, 5).float()
    assert torch.allclose(loss(logits, soft, Batch(torch.zeros(6, 1), soft, torch.arange(6))), of_ids, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_on_mixed_examples(trial: Callable[..., Any], name: str) -> None:
    spec = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    spec.pop("search", None)
    sequence = {
        "_target_": "orchestrator.training.augment.sequence.sequence",
        "steps": ["flip", {"mixup": {"alpha": 1}}],
    }
    model = {"_target_": "models.mlp.mlp", "hidden": 1, "width": 12}
    plain, soft = (
        [*train(trial("", augment=augment, loss=spec, epochs=2, model=model))][-1].metrics
        for augment in (sequence | {"steps": ["flip"]}, sequence)
    )
    assert soft["train/loss"] > plain["train/loss"] + 0.05, "mixed examples are harder"
