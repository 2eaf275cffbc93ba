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

from orchestrator.training import checkpoint
from orchestrator.training.build import build_model, load_data

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
