"""Tries of the parts of a configuration, each by itself or with one other; no network is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.initializers import Needing
from orchestrator.base.build import build
from orchestrator.base.groups import TRIAL_GROUPS
from orchestrator.base.targets import resolve
from orchestrator.training.build import build_loss, build_optimizer, check_clipping
from orchestrator.training.data import Dataset
from orchestrator.training.data.source import Source
from orchestrator.training.losses import Batch
from orchestrator.training.penalties import refuse_decay_twice

PROBE_IMAGES = 2
"""In the batch with which a loss or a network is tried."""

CALLED = frozenset(group.name for group in TRIAL_GROUPS if group.called)

BUILT_ALONE = tuple(group.name for group in TRIAL_GROUPS if not group.provided and group.name != "data")
"""Groups whose targets need nothing from the engine."""


def expected_device(config: Mapping[str, Any]) -> torch.device:
    """The device that trials will have, as far as the driver knows: meta where that is a GPU, of which it may have none."""
    on_cpu = config["device"] == "cpu" or (config["device"] == "auto" and config["gpus_per_trial"] == 0)
    return torch.device("cpu" if on_cpu else "meta")


def build_alone(config: Mapping[str, Any], group: str) -> Any:
    """What the target of a group returns, which needs nothing from the engine.

    Raises:
        ValueError: a value is refused, or the engine has no use for what it returns.
    """
    built = build(config[group])
    if group in CALLED and built is not None and not callable(built):
        raise ValueError(f"must give a callable, gave {type(built).__name__}")
    return built


def check_decay(config: Mapping[str, Any]) -> None:
    """Whether penalty and optimizer, each right by itself, go together.

    Raises:
        ValueError: both penalize squares.
    """
    try:
        penalty = build(config["penalty"])
        optimizer = build_optimizer(config, nn.Linear(2, 2), alone=True) if penalty else None
    except Exception:  # is told as a problem of the part
        return
    if optimizer is not None:
        refuse_decay_twice(penalty, optimizer)


def check_shortened(config: Mapping[str, Any]) -> None:
    """Whether optimizer and clipping, each right by itself, go together.

    Raises:
        ValueError: the optimizer cannot do with gradients that are shortened.
    """
    if config.get("clip_grad_norm") is None:
        return
    try:
        optimizer = build_optimizer(config, nn.Linear(2, 2), alone=True)
    except Exception:  # is told as a problem of the part
        return
    check_clipping(config, optimizer)


def build_source(config: Mapping[str, Any]) -> Source | None:
    """The data's `Source`, which touches no file yet; other targets of data may load them, and are not called.

    Raises:
        ValueError: a value is refused.
    """
    target = resolve(config["data"]["_target_"]) if config["data"] else None
    if getattr(target, "__annotations__", {}).get("return") in (Source, "Source"):
        source: Source = build(config["data"])
        return source
    return None


def data_are_here(config: Mapping[str, Any]) -> bool:
    """Whether the data can be loaded without bringing files from elsewhere."""
    source = build_source(config)
    return source is None or source.ready() or not getattr(source, "download", True)


def check_preprocess(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Whether the preprocessing can be had for images of this size; nothing is computed.

    Raises:
        ValueError: it cannot.
    """
    check_size = getattr(build(config["preprocess"]), "check_size", None)
    if check_size is not None:
        check_size((dataset.in_channels, *dataset.image_size))


def check_init(config: Mapping[str, Any], model: nn.Module) -> None:
    """Whether the initialization can do with the structure of the network; nothing is computed.

    Raises:
        ValueError: it cannot.
    """
    scheme = build(config["init"])
    if isinstance(scheme, Needing):
        scheme.check(model)


def probe_loss(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Build the loss and try it on a batch.

    Raises:
        ValueError: it is refused, or gives no scalar.
    """
    labels = torch.zeros(PROBE_IMAGES, dtype=torch.int64)
    batch = Batch(
        torch.zeros(PROBE_IMAGES, dataset.in_channels, *dataset.image_size), labels, torch.arange(PROBE_IMAGES)
    )
    value = build_loss(config)(torch.zeros(PROBE_IMAGES, dataset.num_classes), labels, batch)
    if not isinstance(value, Tensor) or value.ndim != 0:
        raise ValueError("must give a scalar tensor")
