"""One epoch of training: the step, its checks, and the numbers it gives."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.outputs import Outputs, main_output
from orchestrator.training import private
from orchestrator.training.augment import Augment
from orchestrator.training.batches import DeviceData, batches
from orchestrator.training.device import derive_seed, generator, seed_everything
from orchestrator.training.ema import MovingAverage
from orchestrator.training.endings import Diverged
from orchestrator.training.evaluation import Evaluation
from orchestrator.training.health import FirstStep
from orchestrator.training.losses import Batch, Loss
from orchestrator.training.penalties.base import ActivationPenalty, Penalty, watched
from orchestrator.training.pruning import Pruned
from orchestrator.training.schedules import Schedule
from orchestrator.training.step_watch import StepWatch

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.at_work import AtWork

GRADIENT_NORMS = 8
"""The gradient norm of an epoch is the mean over this many of its steps, evenly spaced."""

CHECK_EVERY_GPU = 50
"""Steps between looks at the loss on a GPU, where each look waits for all work in flight; on the CPU it costs nothing."""

LOGITS_AT_ONCE = 2**20
"""Numbers of training logits held back until their accuracy is counted in one go."""


@dataclass
class Learner:
    """All that a step needs, on one device.

    Args:
        sizes: of the epoch's batches.
        autocast: entered for the forward pass; None without mixed precision.
        model: what a step runs: the whole network, or its last part where the data are features of those before.
        within: the whole network, where `model` is its last part.
        frozen: modules of it that stay in evaluation mode.
        unchanging: names in its state that no step changes.
        clip_norm: longer gradients are shortened to it.
        evaluation: how the network is asked at test time; None for the ordinary inference.
        pruned: weights that are held at zero.
        moving: an average of the weights that every step updates.
        factor: the schedule's last one, applied already.
        beat: called after every step.

    Attributes:
        base_lrs: the learning rate of each parameter group at factor 1.
        params: of all groups.
        keep_graph: whether the optimizer wants to differentiate the gradients again.
        full_batch: whether it takes one step an epoch, by the gradient over the whole training split.
        first_step: what the first step of epoch 1 showed of the initialization.
        at_work: what looks at the layers in some steps; None where nothing does.
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
    within: nn.Module | None = None
    frozen: Sequence[nn.Module] = ()
    unchanging: frozenset[str] = frozenset()
    clip_norm: float | None = None
    evaluation: Evaluation | None = None
    pruned: Pruned | None = None
    moving: MovingAverage | None = None
    at_work: AtWork | None = None
    factor: float | None = None
    beat: Callable[[], None] = lambda: None
    base_lrs: list[float] = field(init=False)
    params: list[nn.Parameter] = field(init=False)
    keep_graph: bool = field(init=False)
    full_batch: bool = field(init=False)
    first_step: FirstStep | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.params = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.keep_graph = bool(getattr(self.optimizer, "needs_graph", False))
        self.full_batch = takes_whole_split(self.optimizer)

    @property
    def whole(self) -> nn.Module:
        """The network whose weights are saved."""
        return self.model if self.within is None else self.within

    def set_factor(self, factor: float) -> None:
        """Scale the learning rate of every parameter group."""
        if factor != self.factor:
            self.factor = factor
            for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = base * factor

    def forward(self, images: Tensor) -> Tensor | Outputs:
        """What the model returns, in fp32."""
        if self.autocast is None:
            return self.model(images)  # type: ignore[no-any-return]
        with self.autocast:
            outputs = self.model(images)
        return _in_fp32(outputs)


def takes_whole_split(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer has a true `full_batch`."""
    return bool(getattr(optimizer, "full_batch", False))


def train_epoch(learner: Learner, epoch: int) -> dict[str, float]:
    """Train for one epoch (from 1); its `train/loss`, `train/accuracy`, `lr` (of the last step), `grad_norm` and `images_per_s`.

    Every random number of the epoch follows from the seed and the epoch: no generator's state need be kept between epochs.

    Raises:
        Diverged: a loss or gradient norm was not finite.
    """
    started = time.perf_counter()
    train, steps = learner.data.splits["train"], len(learner.sizes)
    seed_everything(derive_seed(learner.seed, "model", epoch), learner.device)
    stream = batches(
        train,
        learner.sizes,
        order=torch.randperm(len(train), generator=generator(derive_seed(learner.seed, "order", epoch))),
        augment=learner.augment,
        draws=generator(derive_seed(learner.seed, "augment", epoch), learner.device),
        channels_last=learner.channels_last,
        classes=learner.data.dataset.num_classes,
    )
    totals = _Totals(epoch, learner.sizes, learner.device)
    measured = frozenset({steps - 1}) if learner.full_batch else measured_steps(steps)
    norms: list[Tensor] = []
    optimizer, params, keep_graph = learner.optimizer, learner.params, learner.keep_graph
    learner.model.train()
    for module in learner.frozen:
        module.eval()

    watches = _watches(learner, epoch, steps)
    with _activations(learner) as activations:
        closure = _Closure(learner, activations)
        for step, batch in enumerate(stream):
            watching = watches.get(step, ())
            for watch in watching:
                watch.before_step()
            if not learner.full_batch:
                learner.set_factor(learner.schedule(epoch - 1 + step / steps))
                closure.begin(batch, watches=watching)
                optimizer.step(closure)  # type: ignore[arg-type]
            else:
                if step == 0:
                    learner.set_factor(learner.schedule(epoch - 1))
                closure.begin(batch, share=len(batch.labels) / len(train), clear=step == 0, watches=watching)
                closure()
                if step == steps - 1:
                    closure.shorten()
                    optimizer.step()
            if learner.pruned is not None:
                learner.pruned.hold()
            if learner.moving is not None and (step == steps - 1 or not learner.full_batch):
                learner.moving.update()
            for watch in watching:
                watch.after_step()
            totals.add(closure.loss, main_output(closure.outputs), batch.labels)
            learner.beat()
            if step in measured:
                norms.append(gradient_norm(params) if closure.norm is None else closure.norm)
            if keep_graph:  # a gradient that can be differentiated refers to its parameter, and so to itself
                _drop_gradients(params)

    metrics = totals.close()
    grad_norm = sum(norm.item() for norm in norms) / len(norms)
    if not math.isfinite(grad_norm):
        raise Diverged(epoch, steps, grad_norm, "length of the gradient")
    return {
        **metrics,
        "lr": optimizer.param_groups[0]["lr"],
        "grad_norm": grad_norm,
        "images_per_s": len(train) / (time.perf_counter() - started),
        **(learner.at_work.take() if learner.at_work is not None else {}),
    }


def _watches(learner: Learner, epoch: int, steps: int) -> dict[int, list[StepWatch]]:
    """Step (from 0) -> what looks at it."""
    found: dict[int, list[StepWatch]] = {}
    if epoch == 1:
        learner.first_step = FirstStep(learner.model)
        found[0] = [learner.first_step]
    if learner.at_work is not None:
        for step, look in learner.at_work.looks(epoch, steps):
            found.setdefault(step, []).append(look)
    return found


class _Closure:
    """What the optimizer calls, once or several times a step: the gradient of the batch's objective at the weights of now.

    Attributes:
        loss, outputs, penalty: of the first call of a step, that is of the weights from which the step starts.
        norm: of the last gradient before it was shortened; None where gradients are not.
    """

    loss: Tensor
    outputs: Tensor | Outputs
    penalty: Tensor | None
    norm: Tensor | None = None

    def __init__(self, learner: Learner, activations: dict[str, list[Tensor]] | None) -> None:
        self._learner, self._activations = learner, activations
        self._params = learner.params
        self._backward = backward_on_cpu(learner.keep_graph) if learner.device.type == "cpu" else None
        self._first = True
        self._batch: Batch

    def begin(self, batch: Batch, *, share: float = 1.0, clear: bool = True, watches: Sequence[StepWatch] = ()) -> None:
        """Another batch.

        Args:
            share: the weight of its gradient: its share of the examples, where the gradient is summed over an epoch.
            clear: whether the gradient begins anew.
            watches: look at the first call.
        """
        self._watches = watches
        self._batch, self._first, self._share, self._clear = batch, True, share, clear

    def __call__(self) -> Tensor:
        learner, batch = self._learner, self._batch
        if self._clear:
            for p in self._params:
                p.grad = None
        if self._activations is not None:
            self._activations.clear()
        watches, self._watches = self._watches, ()
        outputs = learner.forward(batch.images) if not watches else self._watched(watches)
        loss = learner.loss(outputs, batch.labels, batch)
        penalty = self._penalty()
        if self._first:
            self._first, self.loss, self.outputs, self.penalty = False, loss, outputs, penalty
        objective = loss if penalty is None else loss + penalty
        if self._share != 1:
            objective = self._share * objective
        if self._backward is not None:
            self._backward(objective)
        else:
            backward_anywhere(objective, learner.keep_graph)
        if learner.pruned is not None:
            learner.pruned.mask_gradients()
        for watch in watches:
            watch.after_backward()
        if not learner.full_batch:
            self.shorten()
        return objective

    def _watched(self, watches: Sequence[StepWatch]) -> Tensor | Outputs:
        with ExitStack() as stack:
            for watch in watches:
                stack.enter_context(watch.watching())
            return self._learner.forward(self._batch.images)

    def shorten(self) -> None:
        """Shortens the gradient, where that is asked for; once all of it is there."""
        if self._learner.clip_norm is not None:
            self.norm = nn.utils.clip_grad_norm_(self._params, self._learner.clip_norm)

    def _penalty(self) -> Tensor | None:
        if self._learner.penalty is None:
            return None
        if self._activations is None:
            return self._learner.penalty(self._learner.model)  # type: ignore[call-arg]
        return self._learner.penalty(self._learner.model, self._activations)  # type: ignore[call-arg,arg-type]


def _activations(learner: Learner) -> AbstractContextManager[dict[str, list[Tensor]] | None]:
    """Hooks on the modules that the penalty watches, for as long as the context is entered; None where it watches none."""
    if isinstance(learner.penalty, ActivationPenalty):
        return watched(learner.model, learner.penalty)
    return nullcontext()


def _in_fp32(outputs: Tensor | Outputs) -> Tensor | Outputs:
    if isinstance(outputs, Outputs):
        return replace(outputs, main=outputs.main.float(), auxiliary=tuple(a.float() for a in outputs.auxiliary))
    return outputs.float()


def measured_steps(steps: int) -> frozenset[int]:
    """The steps (from 0) of an epoch whose gradient norm is taken: all, or `GRADIENT_NORMS` evenly spaced ones."""
    count = min(steps, GRADIENT_NORMS)
    return frozenset(index * steps // count for index in range(count))


def gradient_norm(params: Sequence[nn.Parameter]) -> Tensor:
    """The length of the whole gradient; in float64, since the squares of a large finite gradient overflow float32."""
    with torch.no_grad():
        grads = [p.grad for p in params if p.grad is not None]
        norms: Tensor = torch.linalg.vector_norm(torch.stack(list(private.norms(grads, 2, torch.float64))))
    return norms


def backward_on_cpu(keep_graph: bool = False) -> Callable[[Tensor], None]:
    """A function that adds the gradient of a scalar on the CPU to the `grad` of the parameters.

    Args:
        keep_graph: whether the gradients can be differentiated again.
    """
    seed: Tensor | None = None

    def backward(objective: Tensor) -> None:
        nonlocal seed
        if seed is None:
            if objective.numel() != 1:
                raise ValueError(f"a loss must be a scalar, got shape {tuple(objective.shape)}")
            seed = torch.ones_like(objective)
        if keep_graph:
            with _without_cycle_warning():
                private.backward(objective, seed, True)
        else:
            private.backward(objective, seed, False)

    return backward


def backward_anywhere(objective: Tensor, keep_graph: bool) -> None:
    """The same on any device."""
    if keep_graph:
        with _without_cycle_warning():
            objective.backward(retain_graph=True, create_graph=True)  # type: ignore[no-untyped-call]
    else:
        objective.backward()  # type: ignore[no-untyped-call]


@contextmanager
def _without_cycle_warning() -> Iterator[None]:
    """torch warns that gradients with a graph refer to themselves; the engine drops them after the step."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Using backward\(\) with create_graph=True")
        yield


def _drop_gradients(params: Sequence[nn.Parameter]) -> None:
    for p in params:
        p.grad = None


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
        """The means over the epoch; of a soft label the most probable class counts as the right one."""
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
            labels = torch.cat(self.labels)
            classes = labels.argmax(1) if labels.ndim == 2 else labels
            self.correct += (torch.cat(self.logits).argmax(1) == classes).sum()
            self.logits.clear()
            self.labels.clear()
            self.held = 0
