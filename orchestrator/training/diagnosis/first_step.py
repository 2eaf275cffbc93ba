"""The first step of the training, for the ratio of updates to weights."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.outputs import Outputs
from orchestrator.base.build import build
from orchestrator.training.build import build_optimizer, build_schedule
from orchestrator.training.diagnosis.statistics import copied_weights, update_ratios
from orchestrator.training.diagnosis.subject import Subject
from orchestrator.training.loop import backward_anywhere
from orchestrator.training.losses.base import Batch
from orchestrator.training.penalties.base import ActivationPenalty, watched


def first_step(subject: Subject) -> dict[str, float]:
    """Takes a step with the optimizer and the first learning rate of the trial; by the weight's name, its change over its length.

    The batch has as many images as in training, as far as the subject has them. The network is changed by it.
    """
    optimizer = build_optimizer(subject.config, subject.model)
    size = min(subject.config["batch_size"], len(subject.batch.labels))
    steps = max(1, len(subject.data.splits["train"]) // size)
    factor = build_schedule(subject.config, steps_per_epoch=steps)(0)
    for group in optimizer.param_groups:
        group["lr"] *= factor
    before = copied_weights(subject.model)
    penalty = build(subject.config["penalty"])
    looks = isinstance(penalty, ActivationPenalty)
    with subject.at_work(), watched(subject.model, penalty) if looks else nullcontext() as activations:
        optimizer.step(_Closure(subject, _part(subject.batch, size), penalty, activations, optimizer))  # type: ignore[arg-type]
    return update_ratios(subject.model, before)


def _part(batch: Batch, size: int) -> Batch:
    return Batch(batch.images[:size], batch.labels[:size], batch.indices[:size])


class _Closure:
    """What the optimizer calls: the gradient of the batch's objective, as in the training's loop."""

    def __init__(
        self, subject: Subject, batch: Batch, penalty: Any, activations: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        self._subject, self._batch = subject, batch
        self._penalty, self._activations = penalty, activations
        self._keep_graph = bool(getattr(optimizer, "needs_graph", False))
        self._params = [p for group in optimizer.param_groups for p in group["params"]]
        self.loss: Tensor
        self.outputs: Tensor | Outputs
        self.penalty: Tensor | None = None

    def __call__(self) -> Tensor:
        for p in self._params:
            p.grad = None
        if self._activations is not None:
            self._activations.clear()
        self.outputs = self._subject.model(self._batch.images)
        self.loss = self._subject.loss(self.outputs, self._batch.labels, self._batch)
        if self._penalty is not None:
            more = () if self._activations is None else (self._activations,)
            self.penalty = self._penalty(self._subject.model, *more)
        objective = self.loss if self.penalty is None else self.loss + self.penalty
        backward_anywhere(objective, self._keep_graph)
        if (longest := self._subject.config.get("clip_grad_norm")) is not None:
            nn.utils.clip_grad_norm_(self._params, longest)
        return objective
