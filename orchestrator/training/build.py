"""From a trial's configuration to everything that its training needs, built and placed on its device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.initializers import initialize
from models.network import part_names
from orchestrator.base.build import build, parameters
from orchestrator.base.groups import OF_MODEL
from orchestrator.base.targets import resolve
from orchestrator.training import augment, features, pretrained
from orchestrator.training.batches import DeviceData, batch_sizes, place
from orchestrator.training.data import Dataset, load
from orchestrator.training.data.source import Progress
from orchestrator.training.device import autocast, choose_device, derive_seed, generator, seed_everything, set_up
from orchestrator.training.ema import MovingAverage
from orchestrator.training.evaluation import Evaluation
from orchestrator.training.loop import Learner, takes_whole_split
from orchestrator.training.losses import Loss, as_loss
from orchestrator.training.optimizers.parameters import named_parameters, split_groups
from orchestrator.training.pruning import Pruned, Pruning, prunable
from orchestrator.training.schedules import Schedule
from orchestrator.training.transfer import Transfer
from orchestrator.training.transfer.layers import cut_heads, freeze_all_but, stage_of_parameters

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.at_work import AtWork

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
    model, channels_last = build_model(
        config,
        dataset,
        device,
        lambda: init_images(data, pretrained.initial_seed(config)),
        partial(pretrained.take_over, config),
    )
    sizes = batch_sizes(len(data.splits["train"]), config["batch_size"])
    transferred = prepare_transfer(config, model)
    pruned = prune(config, model)
    evaluation = build_evaluation(config)
    check_evaluation(config, evaluation, model, dataset)
    optimizer = build_optimizer(config, model)
    check_clipping(config, optimizer)
    if pruned is not None and getattr(optimizer, "needs_graph", False):
        raise ValueError("prune holds gradients at zero that this optimizer differentiates again; set prune=none")
    decay = config.get("ema_decay")
    whole = model
    if transferred.features_once:
        *parts, model = (whole.get_submodule(name) for name in part_names(whole))
        depends_on = json.dumps([config[group] for group in ("model", *OF_MODEL, "transfer")], sort_keys=True)
        data = features.computed(data, parts, depends_on=depends_on, channels_last=channels_last, beat=beat)
        channels_last = channels_last and data.splits["train"].take(torch.tensor([0])).ndim == 4
    return Learner(
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(config, steps_per_epoch=1 if takes_whole_split(optimizer) else len(sizes)),
        loss=build_loss(config),
        penalty=build(config["penalty"]),
        augment=augment.fitted(build(config["augment"]), dataset.images, dataset.train_ids),
        data=data,
        device=device,
        seed=config["seed"],
        sizes=sizes,
        autocast=autocast(device, config["precision"]),
        channels_last=channels_last,
        within=whole if model is not whole else None,
        frozen=transferred.frozen,
        unchanging=transferred.unchanging,
        clip_norm=config.get("clip_grad_norm"),
        pruned=pruned,
        evaluation=evaluation,
        at_work=_at_work(model) if config.get("diagnostics") else None,
        moving=None if decay is None else MovingAverage(whole, decay, transferred.unchanging),
        beat=beat,
    )


def _at_work(model: nn.Module) -> AtWork:
    """Imported here, since most trials are not diagnosed."""
    from orchestrator.training.diagnosis.at_work import AtWork

    return AtWork(model)


def load_data(config: Mapping[str, Any], progress: Progress | None = None, *, decode: bool = True) -> Dataset:
    """The data set of a configuration.

    Args:
        progress: told how many images are decoded, where they have to be.
        decode: otherwise `UndecodedError` is raised where they have to be.
    """
    cache = None if config["data_cache"] is None else Path(config["data_cache"])
    entry = config.get("data_entry", "")
    return load(config["data"], cache=cache, entry=entry, progress=progress, decode=decode)


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
    begin: Callable[[nn.Module], object] = lambda network: None,
) -> tuple[nn.Module, bool]:
    """The initialized model on the device, and whether its images go channels-last.

    It is made on the CPU from the seed and moved, so that it begins the same on every device; nothing is computed for meta.

    Args:
        images: a mini-batch for initializers that look at data.
        begin: gives the whole network other weights, before `transfer` takes the part of it that is wanted.
    """
    seed = pretrained.initial_seed(config)
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
        begin(model)
        if (transfer := build_transfer(config)) is not None:
            model = transfer.adapt(model, dataset.num_classes, torch.Size((dataset.in_channels, *dataset.image_size)))
            cut_heads(model, transfer.trained(model))
    channels_last = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if channels_last:
        return model.to(device, memory_format=torch.channels_last), True  # type: ignore[call-overload, no-any-return]
    return model.to(device), False


def build_optimizer(config: Mapping[str, Any], model: nn.Module, *, alone: bool = False) -> torch.optim.Optimizer:
    """The optimizer of the model's trainable parameters; its target takes `params`, `named_params`, or both.

    Args:
        alone: the model only serves to try the optimizer: it is not the one that `transfer` is about.
    """
    spec = config["optimizer"]
    params = [p for p in model.parameters() if p.requires_grad]
    named = {"named_params": named_parameters(model)} if _takes(spec, "named_params") else {}
    optimizer: torch.optim.Optimizer = build(spec, params=params, **named)
    if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "step")):
        raise ValueError(f"must give a torch.optim.Optimizer, gave {type(optimizer).__name__}")
    if (transfer := build_transfer(config)) is not None and transfer.lr_factor != 1 and not alone:
        stages = stage_of_parameters(model, transfer.trained(model))
        split_groups(optimizer, {p: transfer.lr_factor**stage for p, stage in stages.items()})
    return optimizer


def check_clipping(config: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Whether the optimizer can do with gradients that are shortened.

    Raises:
        ValueError: it cannot.
    """
    if config.get("clip_grad_norm") is not None and getattr(optimizer, "needs_graph", False):
        choice = (config.get("choices") or {}).get("optimizer") or "this optimizer"
        raise ValueError(
            f"shortens gradients that optimizer={choice} differentiates again; set clip_grad_norm=null, or take another optimizer"
        )


def build_transfer(config: Mapping[str, Any]) -> Transfer | None:
    """What of the network is trained; None for all of it at one learning rate."""
    transfer = build(config["transfer"])
    if not isinstance(transfer, Transfer | None):
        raise ValueError(f"must give a Transfer, gave {type(transfer).__name__}")
    return transfer


@dataclass(frozen=True)
class Transferred:
    """What `transfer` leaves as it is.

    Args:
        frozen: modules that stay in evaluation mode.
        unchanging: names in the network's state that no step changes.
        features_once: the last part alone is trained, on features that are computed once.
    """

    frozen: tuple[nn.Module, ...] = ()
    unchanging: frozenset[str] = frozenset()
    features_once: bool = False


def prepare_transfer(config: Mapping[str, Any], model: nn.Module) -> Transferred:
    """Freezes what is not trained of a model of `build_model`.

    Raises:
        ValueError: features cannot be computed once where images are augmented.
    """
    transfer = build_transfer(config)
    if transfer is None:
        return Transferred()
    if transfer.features_once and config["augment"]:
        raise ValueError(
            "computes the features once, and augmentation changes the images in every epoch; set augment=none, or train"
            " the classifier on augmented images with transfer=few_layers transfer.layers=1"
        )
    frozen = freeze_all_but(model, transfer.trained(model))
    still = {id(buffer) for module in frozen for buffer in module.buffers()}
    still |= {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    unchanging = frozenset(name for name, tensor in tensors if id(tensor) in still)
    return Transferred(tuple(frozen), unchanging, transfer.features_once)


def prune(config: Mapping[str, Any], model: nn.Module) -> Pruned | None:
    """Removes weights of an initialized model for good, as `prune` says; None where it keeps all.

    Raises:
        ValueError: there is no ticket, it is of another network, or it lacks more than is to be removed.
        NotReadyError: its file is not there, or another one than recorded.
    """
    pruning: Pruning | None = build(config.get("prune") or {})
    if pruning is None:
        return None
    weights = prunable(model)
    return Pruned(weights, _removed(config, pruning, _trained_weights(config, weights)))


def check_pruning(config: Mapping[str, Any], model: nn.Module) -> None:
    """Whether a model, which may be on the meta device, can be pruned as `prune` says.

    Raises:
        ValueError, NotReadyError: as `prune`.
    """
    trained = _trained_weights(config, prunable(model))
    if _ticket(config).get("pruned") and (pruning := build(config["prune"])) is not None:
        _removed(config, pruning, trained)


def _removed(config: Mapping[str, Any], pruning: Pruning, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks; the zeros of a trial that was pruned itself are in them."""
    pruned = bool(_ticket(config).get("pruned"))
    gone = {
        name: weight == 0 if pruned else torch.zeros_like(weight, dtype=torch.bool) for name, weight in trained.items()
    }
    found = pruning.removed(trained, gone, generator(derive_seed(config["seed"], "mask")))
    return {name: mask | gone[name] for name, mask in found.items()}


def _ticket(config: Mapping[str, Any]) -> Mapping[str, Any]:
    file = pretrained.ticket_of(config)
    if file is None:
        raise ValueError("takes a trained trial; write search=lottery_ticket from=SWEEP/7")
    return file


def _trained_weights(config: Mapping[str, Any], weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """What these weights are in the trained network of the ticket.

    Raises:
        ValueError: there is no ticket, or it is of another network.
        NotReadyError: its file is not there, or another one than recorded.
    """
    file = _ticket(config)
    trained = pretrained.read(Path(file["path"]), file["sha256"])
    for name, weight in weights.items():
        if name not in trained or trained[name].shape != weight.shape:
            there = f"{name} {list(trained[name].shape)}" if name in trained else f"no {name}"
            raise ValueError(f"the trained network is another: it has {there}, this one {name} {list(weight.shape)}")
    return {name: trained[name] for name in weights}


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


def build_evaluation(config: Mapping[str, Any]) -> Evaluation | None:
    """How the network is asked about an image at test time; None for the ordinary inference."""
    spec = config.get("evaluate") or {}
    seed = {"seed": derive_seed(config["seed"], "evaluate")} if _takes(spec, "seed") else {}
    evaluation: Evaluation | None = build(spec, **seed)
    if not isinstance(evaluation, Evaluation | None):
        raise ValueError(f"must give an Evaluation, gave {type(evaluation).__name__}")
    return evaluation


def check_evaluation(
    config: Mapping[str, Any], evaluation: Evaluation | None, model: nn.Module, dataset: Dataset
) -> None:
    """
    Args:
        model: the whole network.

    Raises:
        ValueError: the evaluation makes no sense for the network, its images or the `transfer` by which it is trained.
    """
    if evaluation is None:
        return
    if (transfer := build_transfer(config)) is not None and transfer.features_once:
        raise ValueError(
            "looks at images in several ways, and this transfer computes their features once; set evaluate=single_crop,"
            " or train the classifier with transfer=few_layers transfer.layers=1"
        )
    evaluation.check(model, (dataset.in_channels, *dataset.image_size))


def _takes(spec: Mapping[str, Any], name: str) -> bool:
    """Whether a target has an argument of this name; `**settings` is not enough, since it may be handed on."""
    return bool(spec) and name in parameters(resolve(spec["_target_"]))
