"""From a trial's configuration to everything that its training needs, built and placed on its device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.initializers import initialize
from orchestrator.base.build import build, parameters
from orchestrator.base.targets import resolve
from orchestrator.training.batches import DeviceData, batch_sizes, place
from orchestrator.training.data import Dataset, load
from orchestrator.training.data.source import Progress
from orchestrator.training.device import autocast, choose_device, derive_seed, generator, seed_everything, set_up
from orchestrator.training.loop import Learner
from orchestrator.training.losses import Loss, as_loss
from orchestrator.training.optimizers.parameters import named_parameters
from orchestrator.training.schedules import Schedule

INIT_IMAGES = 128
"""Training images that initializers may look at."""


def build_learner(config: Mapping[str, Any], beat: Callable[[], None] = lambda: None) -> Learner:
    """Everything that a trial's training needs, on its device.

    Args:
        beat: called now and then while images are decoded, and by the training after every step.

    Raises:
        ValueError: a part refused its settings, or the batch is larger than the training set.
        NotReadyError: the data are not there.
    """
    device = choose_device(config)
    set_up(device, config["cpus_per_trial"], config["precision"])
    dataset = load_data(config, lambda done, total: beat())
    data = place(dataset, config["preprocess"], lambda: build(config["preprocess"]), device)
    model, channels_last = build_model(config, dataset, device, lambda: init_images(data, config["seed"]))
    sizes = batch_sizes(len(data.splits["train"]), config["batch_size"])
    return Learner(
        model=model,
        optimizer=build_optimizer(config, model),
        schedule=build_schedule(config, steps_per_epoch=len(sizes)),
        loss=build_loss(config),
        penalty=build(config["penalty"]),
        augment=build(config["augment"]),
        data=data,
        device=device,
        seed=config["seed"],
        sizes=sizes,
        autocast=autocast(device, config["precision"]),
        channels_last=channels_last,
        beat=beat,
    )


def load_data(config: Mapping[str, Any], progress: Progress | None = None) -> Dataset:
    """The data set of a configuration.

    Args:
        progress: told how many images are decoded, where they have to be.
    """
    cache = None if config["data_cache"] is None else Path(config["data_cache"])
    entry = config.get("data_entry", "")
    return load(config["data"], cache=cache, entry=entry, progress=progress)


def init_images(data: DeviceData, seed: int) -> Tensor:
    """A mini-batch of training images for the initializers that look at data."""
    train = data.splits["train"]
    order = torch.randperm(len(train), generator=generator(derive_seed(seed, "init images")))
    return train.take(order[:INIT_IMAGES]).cpu()


def build_model(
    config: Mapping[str, Any],
    dataset: Dataset,
    device: torch.device,
    images: Callable[[], Tensor | None] = lambda: None,
) -> tuple[nn.Module, bool]:
    """The initialized model on the device, and whether its images go channels-last.

    It is made on the CPU from the seed and moved, so that it begins the same on every device; nothing is computed for meta.
    """
    seed = config["seed"]
    seed_everything(derive_seed(seed, "build"), torch.device("cpu"))
    # a device context slows every constructor, so there is none for the CPU
    with device if device.type == "meta" else nullcontext():
        model: nn.Module = build(
            config["model"],
            num_classes=dataset.num_classes,
            in_channels=dataset.in_channels,
            image_size=dataset.image_size,
            norm=build(config["norm"]),
            activation=build(config["activation"]),
        )
        if not isinstance(model, nn.Module):
            raise ValueError(f"must give a torch.nn.Module, gave {type(model).__name__}")
        scheme = build(config["init"])
        if scheme is not None:
            initialize(model, scheme, generator(derive_seed(seed, "init")), images())
    channels_last = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if channels_last:
        return model.to(device, memory_format=torch.channels_last), True  # type: ignore[call-overload, no-any-return]
    return model.to(device), False


def build_optimizer(config: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the model's trainable parameters; its target takes `params`, `named_params`, or both."""
    spec = config["optimizer"]
    params = [p for p in model.parameters() if p.requires_grad]
    named = {"named_params": named_parameters(model)} if _takes(spec, "named_params") else {}
    optimizer: torch.optim.Optimizer = build(spec, params=params, **named)
    if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "step")):
        raise ValueError(f"must give a torch.optim.Optimizer, gave {type(optimizer).__name__}")
    return optimizer


def build_schedule(config: Mapping[str, Any], *, steps_per_epoch: int) -> Schedule:
    """The schedule of the learning rate over the trial's epochs."""
    spec = config["schedule"]
    steps = {"steps_per_epoch": steps_per_epoch} if _takes(spec, "steps_per_epoch") else {}
    schedule: Schedule = build(spec, epochs=config["epochs"], **steps)
    if not callable(schedule):
        raise ValueError(f"must give a callable, gave {type(schedule).__name__}")
    return schedule


def build_loss(config: Mapping[str, Any]) -> Loss:
    """The loss, told outputs, labels and batch."""
    return as_loss(build(config["loss"]))


def _takes(spec: Mapping[str, Any], name: str) -> bool:
    """Whether a target has an argument of this name; `**settings` is not enough, since it may be handed on."""
    return bool(spec) and name in parameters(resolve(spec["_target_"]))
