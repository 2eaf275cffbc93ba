"""One epoch of training: the step, its checks, and the numbers it gives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.training.augment import Augment
from orchestrator.training.batches import DeviceData, batches
from orchestrator.training.device import derive_seed, generator, seed_everything
from orchestrator.training.losses import Loss
from orchestrator.training.penalties import Penalty
from orchestrator.training.schedules import Schedule

GRADIENT_NORMS = 8
"""The gradient norm of an epoch is the mean over this many of its steps, evenly spaced."""

CHECK_EVERY_GPU = 50
"""Steps between looks at the loss on a GPU, where each look waits for all work in flight; on the CPU it costs nothing."""

LOGITS_AT_ONCE = 2**20
"""Numbers of training logits held back until their accuracy is counted in one go."""


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """The loss (or the gradient) is no longer finite: a result of the trial, not a fault.

    Args:
        epoch: from 1.
        step: within the epoch, from 1; the last one where validation showed it.
        value: the loss, inf or nan.
    """

    def __init__(self, epoch: int, step: int, value: float) -> None:
        super().__init__(epoch, step, value)
        self.epoch, self.step, self.value = epoch, step, value

    def __str__(self) -> str:
        return f"the loss is {self.value} at epoch {self.epoch}, step {self.step}"


@dataclass
class Learner:
    """All that a step needs, on one device.

    Args:
        sizes: of the epoch's batches.
        base_lrs: the learning rate of each parameter group at factor 1.
        autocast: entered for the forward pass; None in fp32.
        factor: the schedule's last one, applied already.
        beat: called after every step.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    loss: Loss
    penalty: Penalty | None
    augment: Augment | None
    data: DeviceData
    device: torch.device
    seed: int
    sizes: list[int]
    autocast: AbstractContextManager[Any] | None
    channels_last: bool
    base_lrs: list[float] = field(init=False)
    params: list[nn.Parameter] = field(init=False)
    factor: float | None = None
    beat: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.params = [p for group in self.optimizer.param_groups for p in group["params"]]

    def set_factor(self, factor: float) -> None:
        """Scale the learning rate of every parameter group."""
        if factor != self.factor:
            self.factor = factor
            for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = base * factor


def train_epoch(learner: Learner, epoch: int) -> dict[str, float]:
    """Train for one epoch (from 1); its `train/loss`, `train/accuracy`, `lr` (of the last step), `grad_norm` and `images_per_s`.

    Every random number of the epoch follows from the seed and the epoch: no generator's state need be kept between epochs.

    Raises:
        Diverged: a loss or gradient norm was not finite.
    """
    started = time.perf_counter()
    model, optimizer, autocast, params = learner.model, learner.optimizer, learner.autocast, learner.params
    train, steps = learner.data.splits["train"], len(learner.sizes)
    seed_everything(derive_seed(learner.seed, "model", epoch), learner.device)
    stream = batches(
        train,
        learner.sizes,
        order=torch.randperm(len(train), generator=generator(derive_seed(learner.seed, "order", epoch))),
        augment=learner.augment,
        draws=generator(derive_seed(learner.seed, "augment", epoch), learner.device),
        channels_last=learner.channels_last,
    )
    totals = _Totals(epoch, learner.sizes, learner.device)
    measured = measured_steps(steps)
    norms: list[Tensor] = []
    model.train()

    backward = _backward_on_cpu() if learner.device.type == "cpu" else Tensor.backward
    images = labels = logits = loss = torch.empty(0)

    def closure() -> Tensor:
        nonlocal logits, loss
        for p in params:
            p.grad = None
        if autocast is None:
            logits = model(images)
        else:
            with autocast:
                logits = model(images)
            logits = logits.float()
        loss = learner.loss(logits, labels)
        objective = loss if learner.penalty is None else loss + learner.penalty(model)
        backward(objective)
        return objective

    for step, (images, labels) in enumerate(stream):  # noqa: B007 - the closure reads them
        learner.set_factor(learner.schedule(epoch - 1 + step / steps))
        optimizer.step(closure)  # type: ignore[arg-type]
        totals.add(loss, logits, labels)
        learner.beat()
        if step in measured:
            norms.append(gradient_norm(params))

    metrics = totals.close()
    grad_norm = sum(norm.item() for norm in norms) / len(norms)
    if not math.isfinite(grad_norm):
        raise Diverged(epoch, steps, grad_norm)
    return {
        **metrics,
        "lr": optimizer.param_groups[0]["lr"],
        "grad_norm": grad_norm,
        "images_per_s": len(train) / (time.perf_counter() - started),
    }


def measured_steps(steps: int) -> frozenset[int]:
    """The steps (from 0) of an epoch whose gradient norm is taken: all, or `GRADIENT_NORMS` evenly spaced ones."""
    count = min(steps, GRADIENT_NORMS)
    return frozenset(index * steps // count for index in range(count))


def gradient_norm(params: Sequence[nn.Parameter]) -> Tensor:
    """The length of the whole gradient; in float64, since the squares of a large finite gradient overflow float32."""
    grads = [p.grad for p in params if p.grad is not None]
    norms: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2, torch.float64)))
    return norms


def _backward_on_cpu() -> Callable[[Tensor], None]:
    """`Tensor.backward` for scalars, straight to the autograd engine.

    The way there checks arguments and hands the compiler's context to the threads of other devices, which the CPU has not: 60 us
    of the 390 us of a small network's step (torch 2.15).
    """
    run = torch.autograd.Variable._execution_engine.run_backward
    seed: Tensor | None = None

    def backward(objective: Tensor) -> None:
        nonlocal seed
        if seed is None:
            if objective.numel() != 1:
                raise ValueError(f"a loss must be a scalar, got shape {tuple(objective.shape)}")
            seed = torch.ones_like(objective)
        run((objective,), (seed,), False, False, (), allow_unreachable=True, accumulate_grad=True)

    return backward


class _Totals:
    """Loss and accuracy over an epoch, gathered without waiting for the device at every step."""

    def __init__(self, epoch: int, sizes: list[int], device: torch.device) -> None:
        self.epoch, self.sizes = epoch, sizes
        self.on_cpu = device.type == "cpu"
        self.losses: list[Tensor] = []
        self.step = 0  # steps whose loss is counted
        self.loss = 0.0
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.held = 0
        self.correct = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take the results of one step."""
        if self.on_cpu:
            self._count(loss.item())
        else:
            self.losses.append(loss.detach())
            if len(self.losses) == CHECK_EVERY_GPU:
                self._count_losses()
        self.logits.append(logits.detach())
        self.labels.append(labels)
        self.held += logits.numel()
        if self.held > LOGITS_AT_ONCE:
            self._count_correct()

    def close(self) -> dict[str, float]:
        """The means over the epoch."""
        self._count_losses()
        self._count_correct()
        examples = sum(self.sizes)
        return {"train/loss": self.loss / examples, "train/accuracy": self.correct.item() / examples}

    def _count(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(self.epoch, self.step + 1, loss)
        self.loss += loss * self.sizes[self.step]
        self.step += 1

    def _count_losses(self) -> None:
        if self.losses:
            for loss in torch.stack(self.losses).tolist():
                self._count(loss)
            self.losses.clear()

    def _count_correct(self) -> None:
        if self.logits:
            self.correct += (torch.cat(self.logits).argmax(1) == torch.cat(self.labels)).sum()
            self.logits.clear()
            self.labels.clear()
            self.held = 0
