"""A trained model back from its files."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from orchestrator.base.build import build
from orchestrator.base.decode import DecodeError
from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.inputs import Inputs, checked_inputs
from orchestrator.base.targets import catalogue_targets
from orchestrator.training import checkpoint, metrics
from orchestrator.training.batches import fitted, place
from orchestrator.training.build import build_evaluation, build_model, load_data
from orchestrator.training.device import ran_on, set_up
from orchestrator.training.evaluate import logits
from orchestrator.training.evaluation import Evaluation
from orchestrator.training.inputs import inputs_of, of_network, transform_of
from orchestrator.training.preprocess.statistics import Transform

SHAPE = ("num_classes", "in_channels", "image_size")
NOTHING: Mapping[str, Any] = {}

MOST_PARTS = 20_000
"""Modules and parameters of a network; a residual network of 1,202 layers has a third."""


@dataclass(frozen=True)
class Restored:
    """A trained network, and what it was told of its images.

    Args:
        network: in evaluation mode, on the CPU.
        channels_last: whether its images go through it in this memory format.
        inputs: how its images are stored, and the names of its classes.
        transform: from stored images to what the network takes, fitted on the training split.
        evaluation: how it is asked about an image; None for the ordinary inference.
    """

    network: nn.Module
    channels_last: bool
    inputs: Inputs
    transform: Transform
    evaluation: Evaluation | None = None


def restored(
    config: Mapping[str, Any],
    weights: Path,
    *,
    uid: str | None,
    inputs: Inputs | None = None,
    facts: Mapping[str, Any] = NOTHING,
) -> Restored:
    """The network of a trial's configuration with the weights of a file, and its preprocessing.

    Weights of earlier versions do not say how images were preprocessed, and none do where a method of the user's own did that: it
    is computed from the data set again. Where that is not there, or another by now, the transform raises NotReadyError.

    Args:
        uid: of the trial, which the file must be of; None for that of any.
        inputs: what the network was told of its images; by what the file says where absent.
        facts: for weights of earlier versions, `num_classes`, `in_channels`, `image_size` of its data, and, as far as known,
            `classes` and `fingerprint`.

    Raises:
        Damaged: the file is not whole, of another trial, or says of its images what cannot be.
        RuntimeError: the weights do not fit the model.
        NotReadyError: an earlier version wrote the file, nothing else says what the model is, and the data set is not there.
    """
    loaded = checkpoint.load(weights, uid=uid)
    inputs = inputs or _inputs(loaded.state)
    transform: Transform | None = None if inputs is None else _kept_transform(inputs, loaded)
    weights_of_network = of_network(loaded.tensors)
    if inputs is None or transform is None:
        inputs, transform = _from_data(config, inputs, facts)
    shape: Any = SimpleNamespace(
        num_classes=len(inputs["classes"]),
        in_channels=inputs["channels"],
        image_size=(inputs["height"], inputs["width"]),
    )
    # The weights are about to be replaced: an initialization would only cost time, or ask for the data.
    config = {**config, "init": {}}
    with generators_kept():
        if config["model"].get("_target_") in catalogue_targets():
            with _at_most(MOST_PARTS):
                outline = build_model(config, shape, torch.device("meta"))[0]
            _check_shapes(outline, weights_of_network)
        model, channels_last = build_model(config, shape, torch.device("cpu"))
    model.load_state_dict(weights_of_network)
    evaluation = build_evaluation(config)
    if evaluation is not None:
        evaluation.check(model, (shape.in_channels, *shape.image_size))
    return Restored(model.eval(), channels_last, inputs, transform, evaluation)


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
    with generators_kept():
        model, channels_last = build_model({**config, "init": {}}, dataset, device)
    model.load_state_dict(of_network(loaded.tensors))
    evaluation = build_evaluation(config)
    found: dict[str, float] = {}
    for name in ("val", "test"):
        split = data.splits[name]
        said = logits(model, split, channels_last=channels_last, evaluation=evaluation)
        found |= metrics.evaluated(name, said, split.labels)
    return found, ran_on(device, "fp32")


def same_weights(one: Path, other: Path, *, uid: str) -> bool:
    """Whether the file of a trial and another hold the same bits, whatever trial the other is of; the order of what is beside the
    tensors in a file is not fixed.

    Raises:
        Damaged: a file is not whole, or the first is of another trial.
    """
    first, second = checkpoint.load(one, uid=uid), checkpoint.load(other, uid=None)
    said = (first.state.keys() & second.state.keys()) - {"uid"}  # an earlier version said less of them
    differ = any(first.state[key] != second.state[key] for key in said)
    if differ or first.tensors.keys() != second.tensors.keys():
        return False
    return all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())


def _check_shapes(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise RuntimeError unless weights are those of a model, before that takes memory: a file may claim a width of millions."""
    wanted, found = model.state_dict(), dict(tensors)
    for name in sorted(wanted.keys() ^ found.keys()):
        raise RuntimeError(f"{name} is {'missing' if name in wanted else 'of no part of it'}")
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise RuntimeError(f"{name} has the shape {list(found[name].shape)}, the network's is {list(tensor.shape)}")


@contextmanager
def _at_most(parts: int) -> Iterator[None]:
    """Within the block, RuntimeError once a network has more modules and parameters: a file may claim a depth of millions."""
    builder, count = threading.get_ident(), 0

    def add(module: nn.Module, name: str, part: object) -> None:
        nonlocal count
        count += threading.get_ident() == builder
        if count > parts:
            raise RuntimeError(f"it has more than {parts:,} modules and parameters")

    handles = [register_module_module_registration_hook(add), register_module_parameter_registration_hook(add)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _inputs(state: Mapping[str, Any]) -> Inputs | None:
    try:
        return checked_inputs(state["inputs"]) if "inputs" in state else None
    except DecodeError as error:
        raise checkpoint.Damaged(str(error)) from error


def _kept_transform(inputs: Inputs, loaded: checkpoint.Loaded) -> Transform | None:
    try:
        return transform_of(inputs, loaded.tensors)
    except ValueError as error:
        raise checkpoint.Damaged(str(error)) from error


def _from_data(config: Mapping[str, Any], inputs: Inputs | None, facts: Mapping[str, Any]) -> tuple[Inputs, Transform]:
    """What was told of the images, and the preprocessing, from the data set; a transform that raises where it is not there."""
    try:
        dataset = load_data(without_download(config))
        if facts.get("fingerprint", dataset.fingerprint) != dataset.fingerprint:
            raise NotReadyError(f"the data set {dataset.name} here is another than that of the training")
        transform = fitted(build(config["preprocess"]), dataset)
        return inputs_of(dataset, transform), transform
    except (NotReadyError, ConfigError, ValueError) as error:
        inputs = inputs or _inputs_of_facts(facts)
        if inputs is None:
            raise
        why = str(error)

    def missing(images: Tensor) -> Tensor:
        raise NotReadyError(
            f"how the images were preprocessed is not kept with these weights, and cannot be computed again ({why}); put the"
            " data set back as it was, or use .network on images that you preprocess"
        )

    return inputs, missing


def without_download(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose data set is only read: nobody asked for its files."""
    data = config["data"]
    return {**config, "data": {**data, "download": False} if "download" in data else data}


def _inputs_of_facts(facts: Mapping[str, Any]) -> Inputs | None:
    """What the plan and the predictions say of the data; classes are numbers where their names are not known."""
    if not set(SHAPE) <= set(facts):
        return None
    height, width = facts["image_size"]
    classes = facts.get("classes") or [str(number) for number in range(facts["num_classes"])]
    return {
        "dtype": "uint8",
        "channels": facts["in_channels"],
        "height": height,
        "width": width,
        "scale": None,
        "shift": None,
        "classes": classes,
    }


@contextmanager
def generators_kept() -> Iterator[None]:
    """Building a model seeds the global generators; the caller's are put back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
