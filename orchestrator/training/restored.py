"""A trained model back from its files."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from orchestrator.base.build import build
from orchestrator.training import checkpoint, metrics
from orchestrator.training.batches import place
from orchestrator.training.build import build_model, load_data
from orchestrator.training.device import ran_on, set_up
from orchestrator.training.evaluate import logits

SHAPE = ("num_classes", "in_channels", "image_size")


def restored_model(config: Mapping[str, Any], weights: Path, *, uid: str, facts: Mapping[str, Any]) -> nn.Module:
    """The model of a trial's configuration with the weights of a file, in evaluation mode, on the CPU.

    Args:
        uid: of the trial, which the file must be of.
        facts: `num_classes`, `in_channels`, `image_size` of its data; where they are not there, the data set is loaded.

    Raises:
        Damaged: the file is not whole, or of another trial.
        RuntimeError: the weights do not fit the model.
        NotReadyError: the data set is needed and not there.
    """
    loaded = checkpoint.load(weights, uid=uid)
    data: Any = _shape(facts) if set(SHAPE) <= set(facts) else load_data(config)
    # The weights are about to be replaced: an initialization would only cost time, or ask for the data.
    with _generators_kept():
        model, _ = build_model({**config, "init": {}}, data, torch.device("cpu"))
    model.load_state_dict(loaded.tensors)
    return model.eval()


def evaluated_again(config: Mapping[str, Any], weights: Path, *, uid: str) -> tuple[dict[str, float], dict[str, Any]]:
    """The metrics of validation and test with the weights of a file, computed here on the CPU, and what that ran on (`ran_on`).

    Args:
        uid: of the trial, which the file must be of.

    Raises:
        Damaged: the file is not whole, or of another trial.
        RuntimeError: the weights do not fit the model.
        ConfigError, NotReadyError: the model's or the data's code, or the data set, is not there.
    """
    loaded = checkpoint.load(weights, uid=uid)
    device = torch.device("cpu")
    set_up(device, config["cpus_per_trial"])
    dataset = load_data(config)
    preprocess = config["preprocess"]
    data = place(dataset, preprocess, lambda: build(preprocess), device)
    with _generators_kept():
        model, channels_last = build_model({**config, "init": {}}, dataset, device)
    model.load_state_dict(loaded.tensors)
    found: dict[str, float] = {}
    for name in ("val", "test"):
        split = data.splits[name]
        found |= metrics.evaluated(name, logits(model, split, channels_last=channels_last), split.labels)
    return found, ran_on(device, "fp32")


def same_weights(one: Path, other: Path, *, uid: str) -> bool:
    """Whether two files of a trial hold the same bits; the order of what is beside the tensors in a file is not fixed.

    Raises:
        Damaged: a file is not whole, or of another trial.
    """
    first, second = (checkpoint.load(path, uid=uid) for path in (one, other))
    if first.state != second.state or first.tensors.keys() != second.tensors.keys():
        return False
    return all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())


def _shape(facts: Mapping[str, Any]) -> SimpleNamespace:
    """What a model has to know of its data."""
    known = {key: facts[key] for key in SHAPE}
    return SimpleNamespace(**known | {"image_size": tuple(known["image_size"])})


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Building a model seeds the global generators; the caller's are put back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
