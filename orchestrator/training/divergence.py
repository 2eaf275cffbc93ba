"""Why a trial diverged: its training since the last checkpoint once more, with an eye on every layer.

Nothing is watched before: the order of examples, augmentation and dropout follow from the seed and the epoch, so that on a CPU
the same numbers leave the finite range at the same step. On a GPU they may not; the story then says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from orchestrator.base.records import Divergence, Trial
from orchestrator.training.endings import Diverged, Superseded
from orchestrator.training.loop import Learner, gradient_norm
from orchestrator.training.trial import TrialRun

Signal = Literal["outputs", "loss", "gradients", "weights"]

RECENT = 5
"""Steps before the last good one that do not count for the usual length of the gradient."""


def story(trial: Trial, error: Diverged) -> Divergence:
    """What went wrong first in a trial that ended with `error`; it takes the time of the epochs since the last checkpoint.

    The trial has diverged, whatever becomes of this: what the replay raises is part of the story.

    Args:
        trial: that attempt at it.

    Raises:
        Superseded: a later attempt has begun.
    """
    bare: Divergence = {"epoch": error.epoch, "step": error.step, "replayed": False}
    try:
        return _replayed(trial, error) or bare
    except Superseded:
        raise
    except Diverged as other:
        return {**bare, "why": f"its replay diverged elsewhere, at epoch {other.epoch}, step {other.step}"}
    except Exception as problem:  # such as no memory: how the trial ended is settled, and this only explains it
        return {**bare, "why": f"{type(problem).__name__}: {problem}"[:500]}


def _replayed(trial: Trial, error: Diverged) -> Divergence | None:
    run = TrialRun(trial)
    while run.epoch < error.epoch - 1:
        next(run)
    with watched(run.learner) as watch:
        try:
            next(run)
        except _Left as left:
            return watch.told(error.epoch, left.signal, left.layer)
        except Diverged as same:
            found = watch.not_finite(["outputs"]) or _Left("loss", None)
            return watch.told(same.epoch, found.signal, found.layer)
    return None


class _Left(Exception):  # noqa: N818 - what is looked for
    """Something left the finite range."""

    def __init__(self, signal: Signal, layer: str | None) -> None:
        super().__init__(signal, layer)
        self.signal, self.layer = signal, layer


class _Watch:
    """Looks after each batch whether everything was finite, in the order in which it came.

    Attributes:
        good: batches of the epoch after which everything was finite; all of them in the validation.
        norms: the length of the gradient at each step.
    """

    def __init__(self, learner: Learner) -> None:
        self.good = 0
        self.norms: list[float] = []
        self._learner = learner
        self._seen: list[tuple[Signal, str, Tensor]] = []
        self._beat = learner.beat

    def beat(self) -> None:
        """After each batch, in place of the learner's."""
        self._beat()
        if (left := self.not_finite()) is not None:
            raise left
        if not self._learner.model.training:
            return
        if not self._learner.full_batch or self.good + 1 == len(self._learner.sizes):
            self._look_at_parameters()
        self.good += 1

    def not_finite(self, signals: Collection[Signal] = ("outputs", "gradients")) -> _Left | None:
        """The first that was not finite since the last look."""
        seen = [one for one in self._seen if one[0] in signals]
        self._seen.clear()
        if not seen:
            return None
        finite = torch.stack([largest.float() for _, _, largest in seen]).isfinite().tolist()
        return next(
            (_Left(signal, name) for (signal, name, _), fine in zip(seen, finite, strict=True) if not fine), None
        )

    def told(self, epoch: int, signal: Signal, layer: str | None) -> Divergence:
        """The story, now that something has left the finite range."""
        steps = len(self._learner.sizes)
        told: Divergence = {
            "epoch": epoch,
            "step": min(self.good + 1, steps),
            "replayed": True,
            "steps": steps,
            "validation": self.good == steps,
            "signal": signal,
            "lr": float(self._learner.optimizer.param_groups[0]["lr"]),
            "last_good": (epoch, self.good) if self.good else (epoch - 1, steps) if epoch > 1 else None,
        }
        if layer is not None:
            told["layer"] = layer
        if len(self.norms) > RECENT:
            told["gradient"] = (_short(statistics.median(self.norms[:-RECENT])), _short(self.norms[-1]))
        return told

    def computed(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        """The forward hook of a module."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in output if isinstance(output, tuple) else (output,):
                if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel():
                    self._take("outputs", name, tensor)
                    if tensor.requires_grad:
                        self._follow(name, tensor)

        return hook

    def _follow(self, name: str, output: Tensor) -> None:
        """Looks at the first gradient that comes back to an output; later ones are of curvature."""
        came = False

        def hook(gradient: Tensor) -> None:
            nonlocal came
            if not came:
                came = True
                self._take("gradients", name, gradient)

        output.register_hook(hook)  # type: ignore[no-untyped-call]

    def _take(self, signal: Signal, name: str, tensor: Tensor) -> None:
        with torch.no_grad():
            self._seen.append((signal, name, tensor.detach().abs().amax()))

    def _look_at_parameters(self) -> None:
        """After a step: the gradients of the weights, and what the step made of these."""
        named = [(name, p) for name, p in self._learner.model.named_parameters() if p.requires_grad]
        gradients = [(name, p.grad) for name, p in named if p.grad is not None]
        if gradients:
            norm = gradient_norm(self._learner.params).item()
            if not math.isfinite(norm):
                raise _Left("gradients", _first_not_finite(gradients[::-1]))
            self.norms.append(norm)
        if (layer := _first_not_finite([(name, p.detach()) for name, p in named])) is not None:
            raise _Left("weights", layer)


def _short(length: float) -> float:
    return float(f"{length:.2g}")


def _first_not_finite(named: Sequence[tuple[str, Tensor]]) -> str | None:
    """The layer that owns the first parameter with a number that is not finite."""
    for name, tensor in named:
        if not bool(tensor.isfinite().all()):
            return name.rpartition(".")[0] or name
    return None


@contextmanager
def watched(learner: Learner) -> Iterator[_Watch]:
    """Hooks on every module that computes something itself, for the epoch within."""
    watch = _Watch(learner)
    handles = [
        module.register_forward_hook(watch.computed(name))
        for name, module in learner.model.named_modules()
        if next(module.children(), None) is None
    ]
    learner.beat, before = watch.beat, learner.beat
    try:
        yield watch
    finally:
        learner.beat = before
        for handle in handles:
            handle.remove()
