"""A trial from its plain configuration to its outcome: trained epoch by epoch, saved, continued, and tested once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.base.build import build
from orchestrator.base.errors import NotReadyError
from orchestrator.base.records import EpochResult, InitHealth, Trial, better
from orchestrator.training import checkpoint, evaluate, metrics, predictions
from orchestrator.training.averaging import Average, first_epoch
from orchestrator.training.build import build_learner
from orchestrator.training.checkpoint import SavedCheckpoint
from orchestrator.training.comparison import compared, differences
from orchestrator.training.device import ran_on
from orchestrator.training.early_stopping import EarlyStopping
from orchestrator.training.endings import Diverged, Infeasible, Superseded, feasible
from orchestrator.training.files import Best, TrialFiles
from orchestrator.training.heartbeat import Heartbeat
from orchestrator.training.inputs import inputs_of, tensors_of
from orchestrator.training.loop import Learner, train_epoch
from orchestrator.training.optimizers.state import load_optimizer_state, split_optimizer_state
from orchestrator.training.predictions import Outcome, Predictions, recover_outcome
from orchestrator.training.schedules import ObservingSchedule
from orchestrator.training.snapshots import Snapshots, snapshot_epochs

__all__ = ["Diverged", "Infeasible", "Outcome", "SavedCheckpoint", "Superseded", "TrialRun", "recover_outcome", "train"]

KEEP_LOGITS = 2**22
"""Validation logits of the best epoch are kept up to so many numbers, and computed again at the end where there are more."""


def train(trial: Trial) -> Iterator[EpochResult]:
    """The results of the trial's epochs as they are trained; to stop early is to stop iterating. Nothing is saved."""
    yield from TrialRun(trial)


class TrialRun:
    """A trial being trained: an iterator over its epochs, each trained when it is asked for.

    Where the trial's folder holds a valid checkpoint, it continues from there, on the CPU bit for bit as if never stopped.
    Nothing refers to a run but its owner: when that lets it go, the model's memory is free at once.

    Args:
        clock: seconds since 1970, for the timestamps of results.

    Attributes:
        history: all epochs so far, those before the checkpoint included.
        notes: what a reader of the log should know, such as a damaged checkpoint.
        best: (epoch, value) of the best epoch so far by the trial's metric, the earliest of equals.
        ran_on: what the attempt computes on, see `device.ran_on`.
        init_health: of the weights that the trial began with, once the first epoch is over; None where nothing can be said.

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
        self.init_health: InitHealth | None = None
        self._clock = clock
        self._files = TrialFiles(trial) if trial.folder else None
        self._best_weights: dict[str, Tensor] = {}
        self._best_logits: Tensor | None = None
        self._predicted: Predictions | None = None
        self._over = False
        with feasible():
            self._beat = Heartbeat(Path(trial.folder) if trial.folder else None)
            self._learner = build_learner(trial.config, self._beat)
            self._average_from = first_epoch(trial.config)
            self._average = Average(self._learner.unchanging)
            self._snapshots = Snapshots(snapshot_epochs(trial.config), self._learner.unchanging)
            self._early_stopping: EarlyStopping | None = build(trial.config.get("early_stopping") or {})
            self.ran_on = ran_on(self._learner.device, trial.config["precision"])
            if self._files is not None:
                loaded, self.notes = self._files.claim()
                if loaded is not None:
                    self._restore(loaded, self._files.folder)

    def __iter__(self) -> TrialRun:
        return self

    def __next__(self) -> EpochResult:
        epoch = self.epoch + 1
        if self._over or self.whole:
            raise StopIteration
        self._over = True  # unless it goes well: what failed is not tried again
        self._beat.begin(epoch, self._learner.sizes)
        with feasible():
            numbers = self._trained(epoch)
            with self._moving_in_place():
                logits = self._logits("val")
            numbers |= metrics.evaluated("val", logits, self._learner.data.splits["val"].labels)
        if not math.isfinite(numbers["val/loss"]):
            raise Diverged(epoch, len(self._learner.sizes), numbers["val/loss"], "validation loss")
        result = EpochResult(epoch, int(self._clock() * 1000), numbers)
        with feasible():
            self._record(result, logits)
        self._over = False
        return result

    @property
    def learner(self) -> Learner:
        """What is trained, and by what."""
        return self._learner

    @property
    def epoch(self) -> int:
        """The last epoch trained; 0 before the first."""
        return self.history[-1].epoch if self.history else 0

    @property
    def whole(self) -> bool:
        """Whether no epoch is left to train: it had all, or has stopped early."""
        return self.epoch >= self.trial.config["epochs"] or self.stopped_early is not None

    @property
    def stopped_early(self) -> str | None:
        """Why `early_stopping` ends the training before its last epoch; None where it does not."""
        if self._early_stopping is None or not self.history or self.epoch >= self.trial.config["epochs"]:
            return None
        sign = 1 if self.trial.config["mode"] == "max" else -1
        why = self._early_stopping([sign * result.metrics[self.trial.config["metric"]] for result in self.history])
        return why and f"stopped early after epoch {self.epoch}: {why}"

    @property
    def within(self) -> tuple[int, int, int]:
        """How far the epoch is, see `Heartbeat.at`; another thread may ask."""
        return self._beat.at

    def save(self) -> SavedCheckpoint:
        """Write a checkpoint of the last epoch, and `best.safetensors` if a better epoch came since the last time.

        Raises:
            Superseded: a later attempt has begun.
        """
        if self._files is None:
            raise RuntimeError(f"trial {self.trial.uid} has no folder to save to")
        if saved := self._files.saved_checkpoint(self.epoch):
            return saved
        return self._files.save_checkpoint(self.epoch, *self._snapshot(), self._kept_best())

    def finish(self) -> Outcome:
        """Evaluate the best epoch's weights on the test set, this once, and store the predictions; training is over then.

        A metric of the test that is not finite is left out: what becomes of the trial is decided by its validation alone. Where
        the disk was full, another call writes what this one came to.

        Raises:
            Superseded: a later attempt has begun.
        """
        if self.best is None:
            raise RuntimeError(f"trial {self.trial.uid} has not trained an epoch")
        self._over = True
        if self._predicted is None:
            self._predicted = self._predict()
        predicted = self._predicted
        artifacts = []
        if self._files is not None:
            best = self._kept_best()
            assert best is not None
            artifacts.append(self._files.save_end(best, predicted, self._average, self._snapshots))
        return Outcome(predicted.state["metrics"], artifacts, self.best[0], predicted.state["reason"], self.init_health)

    def _trained(self, epoch: int) -> dict[str, float]:
        """An epoch of training; the first also shows whether the initialization is healthy, and more so where it diverges."""
        try:
            numbers = train_epoch(self._learner, epoch)
        except Diverged:
            self._take_health(epoch)
            raise
        self._take_health(epoch)
        return numbers

    def _take_health(self, epoch: int) -> None:
        if epoch == 1 and self._learner.first_step is not None:
            self.init_health = self._learner.first_step.health()

    def _predict(self) -> Predictions:
        """The predictions of the best epoch's weights, the test's among them."""
        assert self.best is not None
        learner = self._learner
        with feasible():
            if self.best[0] != self.epoch or self._best_logits is None or learner.moving is not None:
                learner.whole.load_state_dict(self._best_weights)
            logits = {
                "val": self._logits("val") if self._best_logits is None else self._best_logits,
                "test": self._logits("test"),
            }
            tensors: dict[str, Tensor] = {}
            for name, split in ((name, learner.data.splits[name]) for name in logits):
                tensors |= predictions.split_tensors(name, logits[name], split.ids, split.labels)
        tested, reason = _finite(metrics.evaluated("test", tensors["test_logits"], tensors["test_labels"]))
        reasons = [why for why in (self.stopped_early, reason) if why]
        return Predictions(tensors, self._described(tested) | {"reason": "; ".join(reasons) or None})

    def _moving_in_place(self) -> AbstractContextManager[None]:
        """Within it the network has the moving average of its weights, where there is one."""
        moving = self._learner.moving
        return nullcontext() if moving is None else moving.in_place()

    def _logits(self, name: str) -> Tensor:
        learner = self._learner
        split = learner.data.splits[name]
        return evaluate.logits(
            learner.model,
            split,
            channels_last=learner.channels_last,
            evaluation=learner.evaluation,
            beat=learner.beat,
        )

    def _record(self, result: EpochResult, logits: Tensor) -> None:
        self.history.append(result)
        value = result.metrics[self.trial.config["metric"]]
        if better(self.trial.config["mode"], value, self.best and self.best[1]):
            self.best = (result.epoch, value)
            still, moving = self._learner.unchanging, self._learner.moving
            state = self._learner.whole.state_dict() | (moving.state() if moving else {})
            self._best_weights = {name: tensor if name in still else tensor.clone() for name, tensor in state.items()}
            self._best_logits = logits if logits.numel() <= KEEP_LOGITS else None
        if self._average_from is not None and result.epoch >= self._average_from:
            self._average.add(self._learner.whole)
        self._snapshots.look(result.epoch, self._learner.whole)
        if isinstance(self._learner.schedule, ObservingSchedule):
            self._learner.schedule.observe(result.metrics)

    def _kept_best(self) -> Best | None:
        """The best epoch as its file keeps it."""
        if self.best is None:
            return None
        data = self._learner.data
        transform = data.splits["train"].transform
        return Best(*self.best, self._best_weights, inputs_of(data.dataset, transform), tensors_of(transform))

    def _described(self, tested: Mapping[str, float]) -> dict[str, Any]:
        """What the predictions file says beside the tensors."""
        assert self.best is not None
        dataset = self._learner.data.dataset
        return {
            "uid": self.trial.uid,
            "fingerprint": dataset.fingerprint,
            "classes": list(dataset.classes),
            "best_epoch": self.best[0],
            "best_value": self.best[1],
            "metrics": dict(tested),
            "history": predictions.history_to_json(self.history),
            "init_health": self.init_health,
        }

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and the JSON of a checkpoint."""
        learner = self._learner
        tensors = {f"model/{name}": tensor for name, tensor in learner.whole.state_dict().items()}
        if self.best is not None and self.best[0] != self.epoch:
            still = learner.unchanging
            tensors |= {f"best/{name}": tensor for name, tensor in self._best_weights.items() if name not in still}
        optimizer_tensors, optimizer = split_optimizer_state(learner.optimizer)
        tensors |= optimizer_tensors
        tensors |= {f"average/{name}": tensor for name, tensor in self._average.changing().items()}
        tensors |= {f"snapshot/{name}": tensor for name, tensor in self._snapshots.changing().items()}
        moving = learner.moving
        tensors |= {f"ema/{name}": tensor for name, tensor in (moving.state() if moving else {}).items()}
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
            "averaged": self._average.epochs,
            "init_health": self.init_health,
            "ema_updates": moving.updates if moving else 0,
        }

    def _restore(self, loaded: checkpoint.Loaded, folder: Path) -> None:
        """Continue from a checkpoint."""
        learner, state, config = self._learner, loaded.state, self.trial.config
        if state["fingerprint"] != learner.data.dataset.fingerprint:
            raise NotReadyError(
                f"the data set {learner.data.dataset.name} is not the one that trial {self.trial.uid} began with:"
                " put it back as it was, or launch a new sweep"
            )
        if others := differences(state["config"], compared(config)):
            listed = ", ".join(others)
            raise NotReadyError(f"the checkpoint in {folder} is of another configuration: {listed}; use another folder")
        weights = _below("model/", loaded.tensors)
        frozen = learner.whole.state_dict()
        if other := [n for n in sorted(learner.unchanging & weights.keys()) if not _same(frozen[n], weights[n])]:
            raise NotReadyError(
                f"the checkpoint in {folder} has other frozen weights than the trial begins with here ({other[0]}), so that"
                " features that were computed once do not belong to it; use another folder"
            )
        try:
            learner.whole.load_state_dict(weights)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:300]
            raise NotReadyError(
                f"the checkpoint in {folder} does not fit the model, whose code must have changed ({why}); use another folder"
            ) from error
        load_optimizer_state(learner.optimizer, _below("optimizer/", loaded.tensors), state["optimizer"])
        if isinstance(learner.schedule, ObservingSchedule):
            learner.schedule.restore(state["schedule"])
        self._average.restore(state.get("averaged", 0), learner.whole, _below("average/", loaded.tensors))
        self._snapshots.restore(state["epoch"], learner.whole, _below("snapshot/", loaded.tensors))
        moving = _below("ema/", loaded.tensors)
        if learner.moving is not None:
            learner.moving.restore(state["ema_updates"], moving)
        self.history = predictions.history_from_json(state["history"])
        self.init_health = state.get("init_health")
        if state["best"] is not None:
            self.best = (state["best"][0], state["best"][1])
            self._best_weights = weights | moving | _below("best/", loaded.tensors)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.cpu(), other)


def _finite(tested: Mapping[str, float]) -> tuple[dict[str, float], str | None]:
    """The metrics that are finite, and a sentence about the others."""
    others = [f"{name}={value}" for name, value in tested.items() if not math.isfinite(value)]
    reason = f"not finite, so not recorded: {', '.join(others)}" if others else None
    return {name: value for name, value in tested.items() if math.isfinite(value)}, reason


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
