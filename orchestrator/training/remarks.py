"""Choices that are right and yet decide nothing in a trial: told before a launch, since the results would not show it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from orchestrator.base.build import build
from orchestrator.training.build import build_schedule
from orchestrator.training.optimizers.muon import Muon
from orchestrator.training.schedules import ObservingSchedule
from orchestrator.training.schedules.constant import always_one

MOST_EPOCHS = 10_000
"""So many are looked at."""

UNCHANGED = {"val/accuracy": 0.5, "val/loss": 1.0, "val/nll": 1.0, "val/top5_accuracy": 0.5}
"""What a schedule is shown of every epoch: a network that no longer learns."""


def of_schedule(config: Mapping[str, Any]) -> str | None:
    """What is said of a schedule that leaves the learning rate as it is in every epoch, even where nothing is learned."""
    with suppress(
        Exception
    ):  # of a schedule that cannot be had is told elsewhere; a user's own may look at other metrics
        if _is_idle(config):
            name, epochs = config["choices"].get("schedule"), config["epochs"]
            return (
                f"schedule={name} never changes the learning rate within {epochs} epochs as it is set:"
                f" orchestrator list schedule {name} names its settings"
            )
    return None


def _is_idle(config: Mapping[str, Any]) -> bool:
    schedule = build_schedule(config, steps_per_epoch=2)
    if schedule is always_one or config["epochs"] > MOST_EPOCHS:
        return False
    for epoch in range(config["epochs"]):
        if schedule(epoch) != 1 or schedule(epoch + 0.5) != 1:
            return False
        if isinstance(schedule, ObservingSchedule):
            schedule.observe(UNCHANGED)
    return True


def of_early_stopping(config: Mapping[str, Any]) -> str | None:
    """What is said of a rule that ends no trial before its last epoch, even where nothing is learned."""
    epochs = config["epochs"]
    with suppress(Exception):
        rule = build(config["early_stopping"])
        if rule is not None and 1 < epochs <= MOST_EPOCHS and rule([0.5] * (epochs - 1)) is None:
            name = config["choices"].get("early_stopping")
            return (
                f"early_stopping={name} ends no trial within {epochs} epochs as it is set:"
                f" orchestrator list early_stopping {name} names its settings"
            )
    return None


def of_optimizer(config: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> str | None:
    """What is said of muon where there is nothing that it orthogonalizes."""
    if not isinstance(optimizer, Muon) or any(
        group["orthogonal"] and group["params"] for group in optimizer.param_groups
    ):
        return None
    name = config["choices"].get("optimizer")
    return f"optimizer={name} is adamw here: what is trained has no weight between a first and a last layer"


def of_preprocess(config: Mapping[str, Any], model: nn.Module) -> str | None:
    """What is said where a network looks at neighbouring pixels of images that are no pictures any more."""
    if getattr(build(config["preprocess"]), "makes_vectors", False) and any(map(_sees_neighbours, model.modules())):
        name = config["choices"].get("preprocess")
        return (
            f"preprocess={name} leaves no neighbouring pixels, at which this network's convolutions look:"
            " it is meant for model=mlp and model=linear"
        )
    return None


def _sees_neighbours(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
