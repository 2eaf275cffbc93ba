"""A trial from its plain configuration to its outcome: built, trained epoch by epoch, saved, continued, and tested once."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.initializers import initialize
from orchestrator.base import layout
from orchestrator.base.build import build, use_import_paths, with_current_names
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import FENCE
from orchestrator.base.records import GROUPS, EpochResult, Trial, better
from orchestrator.training import checkpoint, evaluate, predictions
from orchestrator.training.batches import DeviceData, batch_sizes, place
from orchestrator.training.checkpoint import SavedCheckpoint
from orchestrator.training.data import Dataset, load
from orchestrator.training.data.source import Progress
from orchestrator.training.device import (
    autocast,
    choose_device,
    derive_seed,
    generator,
    seed_everything,
    set_up,
)
from orchestrator.training.heartbeat import Heartbeat
from orchestrator.training.loop import Diverged, Learner, train_epoch
from orchestrator.training.predictions import Outcome, Predictions, recover_outcome
from orchestrator.training.schedules import ObservingSchedule

__all__ = ["Diverged", "Infeasible", "Outcome", "SavedCheckpoint", "Superseded", "TrialRun", "recover_outcome", "train"]


INIT_IMAGES = 128

NOT_COMPARED = ("choices", "import_paths", "allowed_targets", "data_cache", "data_entry", "report_every_s")
"""Entries of a configuration that may be others when a trial continues: they name places and times, not what is computed."""

DATA_NOT_COMPARED = ("root", "download")
"""The same of the data group; that they are the same data is what the fingerprint says."""


class Infeasible(Exception):  # noqa: N818 - a result, not an error
    """The trial does not fit into memory: a result of the trial, not a fault."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Superseded(Exception):  # noqa: N818 - nothing went wrong here
    """A later attempt at the trial has begun elsewhere; this one may not write any more."""


def train(trial: Trial) -> Iterator[EpochResult]:
    """The results of the trial's epochs as they are trained; to stop early is to stop iterating. Nothing is saved."""
    yield from TrialRun(trial)


class TrialRun:
    """A trial being trained; iterating trains it.

    Where the trial's folder holds a valid checkpoint, it continues from there, on the CPU bit for bit as if never stopped.

    Args:
        clock: seconds since 1970, for the timestamps of results.

    Attributes:
        history: all epochs so far, those before the checkpoint included.
        notes: what a reader of the log should know, such as a damaged checkpoint.
        best: (epoch, value) of the best epoch so far by the trial's metric, the earliest of equals.

    Raises:
        Diverged: (while iterating) the loss is not finite.
        Infeasible: (always) out of memory.
        NotReadyError: the data are not there, or the folder's checkpoint is of other data or of another configuration.
    """

    def __init__(self, trial: Trial, *, clock: Callable[[], float] = time.time) -> None:
        self.trial = trial
        self.history: list[EpochResult] = []
        self.notes: list[str] = []
        self.best: tuple[int, float] | None = None
        self._clock = clock
        self._folder = Path(trial.folder) if trial.folder else None
        self._best_weights: dict[str, Tensor] = {}
        self._best_saved: int | None = None
        self._saved: SavedCheckpoint | None = None
        with feasible():
            beat = Heartbeat(self._folder)
            self._learner = build_learner(trial.config, beat)
            if self._folder is not None:
                self._take_folder(self._folder)
        self._epochs = self._train()

    def __iter__(self) -> Iterator[EpochResult]:
        return self._epochs

    @property
    def epoch(self) -> int:
        """The last epoch trained; 0 before the first."""
        return self.history[-1].epoch if self.history else 0

    def save(self) -> SavedCheckpoint:
        """Write a checkpoint of the last epoch, and `best.safetensors` if a better epoch came since the last time.

        Raises:
            Superseded: a later attempt has begun.
        """
        folder = self._own_folder()
        if self._saved is None or self._saved.epoch != self.epoch:
            self._save_best(folder)
            self._saved = checkpoint.save(folder, self.epoch, *self._snapshot(), self._own_folder)
        return self._saved

    def finish(self) -> Outcome:
        """Evaluate the best epoch's weights on the test set, this once, and store the predictions; training is over then.

        Raises:
            Superseded: a later attempt has begun.
        """
        if self.best is None:
            raise RuntimeError(f"trial {self.trial.uid} has not trained an epoch")
        learner, dataset = self._learner, self._learner.data.dataset
        learner.model.load_state_dict(self._best_weights)
        tensors: dict[str, Tensor] = {}
        with feasible():
            for name in ("val", "test"):
                split = learner.data.splits[name]
                logits = evaluate.logits(learner.model, split, channels_last=learner.channels_last, beat=learner.beat)
                tensors |= predictions.split_tensors(name, logits, split.ids, split.labels)
        loss, accuracy = evaluate.loss_and_accuracy(tensors["test_logits"], tensors["test_labels"])
        if not math.isfinite(loss):
            raise Diverged(self.best[0], len(learner.sizes), loss)
        metrics = {"test/loss": loss, "test/accuracy": accuracy}
        artifacts = []
        if self._folder is not None:
            folder = self._own_folder()
            self._save_best(folder)
            state = {
                "uid": self.trial.uid,
                "fingerprint": dataset.fingerprint,
                "classes": list(dataset.classes),
                "best_epoch": self.best[0],
                "best_value": self.best[1],
                "metrics": metrics,
                "history": predictions.history_to_json(self.history),
            }
            artifacts.append(predictions.write(folder, Predictions(tensors, state), self._own_folder))
        return Outcome(metrics, artifacts, self.best[0])

    def _train(self) -> Iterator[EpochResult]:
        learner = self._learner
        for epoch in range(self.epoch + 1, self.trial.config["epochs"] + 1):
            with feasible():
                metrics = train_epoch(learner, epoch)
                split = learner.data.splits["val"]
                logits = evaluate.logits(learner.model, split, channels_last=learner.channels_last, beat=learner.beat)
                metrics["val/loss"], metrics["val/accuracy"] = evaluate.loss_and_accuracy(logits, split.labels)
            if not math.isfinite(metrics["val/loss"]):
                raise Diverged(epoch, len(learner.sizes), metrics["val/loss"])
            with feasible():
                self._record(EpochResult(epoch, int(self._clock() * 1000), metrics))
            yield self.history[-1]

    def _record(self, result: EpochResult) -> None:
        self.history.append(result)
        value = result.metrics[self.trial.config["metric"]]
        if better(self.trial.config["mode"], value, self.best and self.best[1]):
            self.best = (result.epoch, value)
            self._best_weights = {name: tensor.clone() for name, tensor in self._learner.model.state_dict().items()}
        if isinstance(self._learner.schedule, ObservingSchedule):
            self._learner.schedule.observe(result.metrics)

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and the JSON of a checkpoint."""
        learner = self._learner
        tensors = {f"model/{name}": tensor for name, tensor in learner.model.state_dict().items()}
        if self.best is not None and self.best[0] != self.epoch:
            tensors |= {f"best/{name}": tensor for name, tensor in self._best_weights.items()}
        optimizer_tensors, optimizer = split_optimizer_state(learner.optimizer)
        tensors |= optimizer_tensors
        schedule = learner.schedule
        return tensors, {
            "uid": self.trial.uid,
            "epoch": self.epoch,
            "attempt": self.trial.attempt,
            "fingerprint": learner.data.dataset.fingerprint,
            "config": compared(self.trial.config),
            "best": self.best,
            "history": predictions.history_to_json(self.history),
            "optimizer": optimizer,
            "schedule": schedule.state() if isinstance(schedule, ObservingSchedule) else None,
        }

    def _take_folder(self, folder: Path) -> None:
        """Claim the folder for this attempt and continue from its newest valid checkpoint, if there is one."""
        folder.mkdir(parents=True, exist_ok=True)
        self._check_fence(folder)
        if self.trial.fence > 1 and _fence(folder) < self.trial.fence:
            checkpoint.write(folder / FENCE, str(self.trial.fence).encode())
        checkpoint.clear_leftovers(folder)
        loaded, self.notes = checkpoint.load_newest(folder, self.trial.uid)
        if loaded is not None:
            self._restore(loaded, folder)

    def _restore(self, loaded: checkpoint.Loaded, folder: Path) -> None:
        learner, state = self._learner, loaded.state
        if state["fingerprint"] != learner.data.dataset.fingerprint:
            raise NotReadyError(
                f"the data set {learner.data.dataset.name} is not the one that trial {self.trial.uid} began with:"
                " put it back as it was, or launch a new sweep"
            )
        if others := differences(with_current_names(state["config"]), compared(self.trial.config)):
            listed = ", ".join(others)
            raise NotReadyError(f"the checkpoint in {folder} is of another configuration: {listed}; use another folder")
        weights = _below("model/", loaded.tensors)
        try:
            learner.model.load_state_dict(weights)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:300]
            raise NotReadyError(
                f"the checkpoint in {folder} does not fit the model, whose code must have changed ({why}); use another folder"
            ) from error
        load_optimizer_state(learner.optimizer, _below("optimizer/", loaded.tensors), state["optimizer"])
        if isinstance(learner.schedule, ObservingSchedule):
            learner.schedule.restore(state["schedule"])
        self.history = predictions.history_from_json(state["history"])
        if state["best"] is not None:
            self.best = (state["best"][0], state["best"][1])
            self._best_weights = _below("best/", loaded.tensors) or weights

    def _save_best(self, folder: Path) -> None:
        if self.best is None or self._best_saved == self.best[0]:
            return
        state = {"uid": self.trial.uid, "epoch": self.best[0], "value": self.best[1]}
        contents = checkpoint.pack(self._best_weights, state, stamp=True)
        checkpoint.write(folder / layout.BEST, contents, self._own_folder)
        self._best_saved = self.best[0]

    def _own_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError(f"trial {self.trial.uid} has no folder to save to")
        self._check_fence(self._folder)
        return self._folder

    def _check_fence(self, folder: Path) -> None:
        if _fence(folder) > self.trial.fence:
            raise Superseded(f"a later attempt at trial {self.trial.uid} has begun; attempt {self.trial.attempt} ends")


def build_learner(config: Mapping[str, Any], beat: Callable[[], None] = lambda: None) -> Learner:
    """Everything that a trial's training needs, from its configuration, on its device.

    Args:
        beat: called now and then while images are decoded, and by the training after every step.

    Raises:
        ValueError: a part refused its settings, or the batch is larger than the training set.
        NotReadyError: the data are not there.
    """
    use_import_paths(config["import_paths"])
    allowed = config["allowed_targets"]
    device = choose_device(config)
    set_up(device, config["cpus_per_trial"])
    dataset = load_data(config, lambda done, total: beat())
    data = place(dataset, config["preprocess"], lambda: build(config["preprocess"], allowed=allowed), device)
    model, channels_last = build_model(config, dataset, device, lambda: init_images(data, config["seed"]))
    params = [p for p in model.parameters() if p.requires_grad]
    return Learner(
        model=model,
        optimizer=build(config["optimizer"], allowed=allowed, params=params),
        schedule=build(config["schedule"], allowed=allowed, epochs=config["epochs"]),
        loss=build(config["loss"], allowed=allowed),
        penalty=build(config["penalty"], allowed=allowed),
        augment=build(config["augment"], allowed=allowed),
        data=data,
        device=device,
        seed=config["seed"],
        sizes=batch_sizes(len(data.splits["train"]), config["batch_size"]),
        autocast=autocast(device, config["precision"]),
        channels_last=channels_last,
        beat=beat,
    )


def load_data(config: Mapping[str, Any], progress: Progress | None = None) -> Dataset:
    """The data set of a configuration; `progress` is told how many images are decoded, where they have to be."""
    cache = None if config["data_cache"] is None else Path(config["data_cache"])
    entry = config.get("data_entry", "")
    return load(config["data"], cache=cache, allowed=config["allowed_targets"], entry=entry, progress=progress)


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a trial's results depend on, as JSON gives it back."""
    kept: dict[str, Any] = {key: value for key, value in config.items() if key not in NOT_COMPARED}
    kept["data"] = {key: value for key, value in config["data"].items() if key not in DATA_NOT_COMPARED}
    return json.loads(json.dumps(kept))  # type: ignore[no-any-return]


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two results of `compared`, by dotted key: "optimizer.lr=0.1 there, 0.2 here"."""
    found = []
    for key in dict.fromkeys([*there, *here]):
        one, other = there.get(key), here.get(key)
        if one == other:
            continue
        if key not in GROUPS or not isinstance(one, Mapping) or not isinstance(other, Mapping):
            found.append(f"{key}={_worded(one)} there, {_worded(other)} here")
        elif one.get("_target_") != other.get("_target_"):
            found.append(f"{key}={_worded(one.get('_target_'))} there, {_worded(other.get('_target_'))} here")
        else:
            names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
            found += [f"{key}.{name}={_worded(one.get(name))} there, {_worded(other.get(name))} here" for name in names]
    return found


def _worded(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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
    allowed, seed = config["allowed_targets"], config["seed"]
    seed_everything(derive_seed(seed, "build"), torch.device("cpu"))
    # a device context slows every constructor, so there is none for the CPU
    with device if device.type == "meta" else nullcontext():
        model: nn.Module = build(
            config["model"],
            allowed=allowed,
            num_classes=dataset.num_classes,
            in_channels=dataset.in_channels,
            image_size=dataset.image_size,
            norm=build(config["norm"], allowed=allowed),
            activation=build(config["activation"], allowed=allowed),
        )
        scheme = build(config["init"], allowed=allowed)
        if scheme is not None:
            initialize(model, scheme, generator(derive_seed(seed, "init")), images())
    channels_last = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if channels_last:
        return model.to(device, memory_format=torch.channels_last), True  # type: ignore[call-overload, no-any-return]
    return model.to(device), False


def split_optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state as tensors under `optimizer/<parameter>/<name>`, and all else as JSON."""
    state = optimizer.state_dict()
    tensors, scalars = {}, {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                scalars[f"{index}/{name}"] = value
    return tensors, {"scalars": scalars, "param_groups": state["param_groups"]}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]
) -> None:
    """Give the optimizer the state that `split_optimizer_state` took, each tensor in the memory layout of its parameter."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest["scalars"]}.items():
        index, name = key.split("/", 1)
        param = params[int(index)]
        if isinstance(value, Tensor) and value.shape == param.shape:
            # fused kernels walk parameter and state side by side in memory
            value = torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": rest["param_groups"]})


@contextmanager
def feasible() -> Iterator[None]:
    """Tell running out of memory, on either device, as `Infeasible`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise Infeasible(f"out of memory: {_first_line(error)}") from error
    except RuntimeError as error:
        # the CPU allocator has no error class of its own, and two wordings
        if "you tried to allocate" not in str(error):
            raise
        raise Infeasible(f"out of memory: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fence(folder: Path) -> int:
    """That of the latest attempt that claimed the folder."""
    try:
        return int((folder / FENCE).read_text())
    except FileNotFoundError:
        return 1
