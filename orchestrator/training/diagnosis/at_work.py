"""What `diagnostics=true` adds to the metrics of a trial's epochs: every layer as its training goes on.

The last step of each epoch is looked at, and the very first of all, as `init/...`: of each layer the mean and standard
deviation of its activations and gradients, the shares of dead units and of saturated activations, and how far the step changed
the weight; of the first layer, how far gradients agree in sign; and of all layers together, the share of weights that are
nearly 0 at the end of the epoch. Nothing is drawn, and no number of the training changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from orchestrator.training.diagnosis.layers import LayerStatistics, Watch, watched
from orchestrator.training.diagnosis.signs import agreement_of, is_plain
from orchestrator.training.diagnosis.statistics import copied_weights, small_weights, update_ratios
from orchestrator.training.step_watch import StepWatch


class AtWork:
    """Looks at a network while it is trained; `take` gives the metrics of an epoch.

    Args:
        model: what a step runs.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._metrics: dict[str, float] = {}

    def looks(self, epoch: int, steps: int) -> list[tuple[int, Look]]:
        """The steps (from 0) of an epoch that are looked at, each with what looks."""
        last = (steps - 1, Look("layers", self._model, self._metrics))
        return [(0, Look("init", self._model, self._metrics)), last] if epoch == 1 else [last]

    def take(self) -> dict[str, float]:
        """What was measured since the last time; only finite numbers."""
        found = {name: value for name, value in self._metrics.items() if math.isfinite(value)}
        self._metrics.clear()
        return found


class Look(StepWatch):
    """Looks at one step.

    Args:
        prefix: of the metrics' names.
        metrics: where they go.
    """

    def __init__(self, prefix: str, model: nn.Module, metrics: dict[str, float]) -> None:
        self._prefix, self._model, self._metrics = prefix, model, metrics
        self._before: dict[str, Tensor] = {}
        self._rows: list[LayerStatistics] = []
        self._watch: Watch | None = None
        self._first: tuple[nn.Module, Tensor] | None = None
        self._first_gradient: Tensor | None = None

    def before_step(self) -> None:
        self._before = copied_weights(self._model)

    @contextmanager
    def watching(self) -> Iterator[None]:
        with watched(self._model) as watch:
            self._watch = watch
            hooks = [self._model.get_submodule(name).register_forward_hook(self._see_first()) for name in watch.layers]
            try:
                yield
            finally:
                for hook in hooks:
                    hook.remove()

    def after_backward(self) -> None:
        assert self._watch is not None
        self._rows = self._watch.statistics()
        self._watch.release()
        for row in self._rows:
            numbers: dict[str, float | None] = {
                "activation_mean": row.activations.mean,
                "activation_std": row.activations.std,
                "dead": row.dead,
                "saturated": row.saturated,
                "gradient_mean": row.gradients.mean if row.gradients else None,
                "gradient_std": row.gradients.std if row.gradients else None,
            }
            self._add(row.name, {key: value for key, value in numbers.items() if value is not None})
        if self._first is not None and self._first_gradient is not None:
            share = agreement_of(*self._first, self._first_gradient)
            if share is not None:
                self._metrics[f"{self._prefix}/sign_agreement"] = share
        self._watch = self._first = self._first_gradient = None

    def after_step(self) -> None:
        ratios = update_ratios(self._model, self._before)
        if any(ratios.values()):  # with a full batch the weights change in an epoch's last step alone
            for row in self._rows:
                self._add(row.name, {"update_ratio": ratios[row.weight]})
        if self._prefix == "layers":
            self._metrics["layers/small_weights"] = small_weights(self._model)
        self._before, self._rows = {}, []

    def _add(self, layer: str, numbers: dict[str, float]) -> None:
        self._metrics.update({f"{self._prefix}/{layer}/{key}": value for key, value in numbers.items()})

    def _see_first(self) -> Callable[[nn.Module, Any, Any], None]:
        """A hook that keeps what goes into the layer that is computed first, and the first gradient that comes back to it."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._first is not None:
                return
            self._first = (module, inputs[0].detach())
            if is_plain(module) and inputs[0].ndim in (2, 4) and output.requires_grad:
                output.register_hook(self._keep_gradient)

        return hook

    def _keep_gradient(self, gradient: Tensor) -> None:
        if self._first_gradient is None and self._first is not None:
            self._first_gradient = gradient.detach()
