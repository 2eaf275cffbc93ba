"""One part of a trial built without its data and its model, to see whether its arguments go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from orchestrator.training.build import build_evaluation, build_optimizer, build_schedule
from orchestrator.training.tries.parts import build_alone


def try_alone(config: Mapping[str, Any], group: str) -> None:
    """Build what a group of the configuration names, other than data and model.

    Raises:
        ValueError: its arguments are refused.
    """
    match group:
        case "optimizer":
            build_optimizer(config, nn.Linear(2, 2), alone=True)
        case "schedule":
            build_schedule(config, steps_per_epoch=1)
        case "evaluate":
            build_evaluation(config)
        case _:
            build_alone(config, group)
