"""What a trial's network costs, by its configuration alone: built and traced on torch's meta device."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch

from models.tracing import Tracer, trace
from orchestrator.training.build import build_model
from orchestrator.training.restored import generators_kept


def network_costs(
    config: Mapping[str, Any], *, num_classes: int, in_channels: int, image_size: tuple[int, int]
) -> tuple[int, int]:
    """Parameters, shared ones once, and multiply-adds of the prediction of an image.

    Raises:
        ValueError, ConfigError: an argument or target is refused.
        Exception: whatever a network that does not take these images raises.
    """
    shape: Any = SimpleNamespace(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    with generators_kept(), Tracer():
        model, _ = build_model({**config, "init": {}}, shape, torch.device("meta"))
    image = torch.zeros(1, in_channels, *image_size, device="meta")
    affine = trace(model.eval(), image)[1].affine
    return sum(parameter.numel() for parameter in model.parameters()), sum(one.multiply_adds for one in affine)
