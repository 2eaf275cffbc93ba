"""Tries of the network: built, and a batch through it.

Networks are built on the meta device, which has shapes but no numbers: the largest costs neither time nor memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from models.outputs import Outputs
from models.tracing import Tracer
from orchestrator.training.build import build_model
from orchestrator.training.data import Dataset
from orchestrator.training.tries.parts import PROBE_IMAGES

COMPUTED_PARAMETERS = 30_000_000
"""A user's models up to this size compute their probe on the CPU: the first forward pass on the meta device imports torch's
compiler, which takes as long as starting the whole program (torch 2.15), and code of theirs may need numbers. Those of the
catalogue need neither: their shapes are known (`models.tracing`)."""


def probe_model(config: Mapping[str, Any], dataset: Dataset, count: int = PROBE_IMAGES) -> nn.Module:
    """The model on the meta device, after a training batch of `count` images went through it or its like.

    Raises:
        ValueError: it cannot be built, cannot be trained on so few, or does not take these images to one logit a class.
    """
    meta = torch.device("meta")
    with Tracer():
        model, _ = build_model({**config, "init": {}}, dataset, meta)
    traced = str(config["model"]["_target_"]).startswith("models.")
    computed = not traced and count_parameters(model) <= COMPUTED_PARAMETERS
    device = torch.device("cpu") if computed else meta
    tried = build_model({**config, "init": {}}, dataset, device)[0] if computed else model
    images = torch.zeros(count, dataset.in_channels, *dataset.image_size, device=device)
    try:
        with torch.no_grad(), Tracer() if traced else nullcontext():
            outputs = tried.train()(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"batch norm has no variance over the single value that batch_size={count} leaves a channel;"
            " set a larger batch_size or another norm"
        ) from error
    except Exception as error:  # the model may be of the user's own
        size = "x".join(map(str, images.shape[1:]))
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"does not take images of {size} ({why})") from error
    for logits in (outputs.main, *outputs.auxiliary) if isinstance(outputs, Outputs) else (outputs,):
        if not isinstance(logits, Tensor) or logits.shape != (count, dataset.num_classes):
            gave = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"must give logits of shape {(count, dataset.num_classes)} for a batch, gave {gave}")
    return model


def refused_group(config: Mapping[str, Any], dataset: Dataset, count: int) -> str:
    """Of a network that refuses a choice: the group without which it takes the rest, or else `model`."""
    for group in ("norm", "activation"):
        with suppress(ValueError):
            probe_model({**config, group: {}}, dataset, count)
            return group
    return "model"


def all_trained(model: nn.Module) -> bool:
    return all(parameter.requires_grad for parameter in model.parameters())


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())
