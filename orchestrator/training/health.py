"""Whether an initialization lets signals through the network, read off its first training step.

At each layer with weights, in the order in which they are called: the standard deviation of its outputs, before any
normalization or activation, and the length of the loss's gradient by them. A signal vanishes (explodes) where its ratio to that
of the first layer leaves its `LIMITS` and does not come back before the end; the gradient is followed back from the last layer.
The length counts all outputs together: a stride leaves each output of the layer below less of the gradient, and there are
more of them.

Sources: Glorot and Bengio 2010; He et al. 2015, arXiv:1502.01852, section 2.2; Yang et al. 2019, arXiv:1902.08129, on deep plain
networks with batch normalization, whose gradients grow 1.2 times a layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.initializers.parameters import weights
from models.network import part_names
from orchestrator.base.records import InitHealth
from orchestrator.training.step_watch import StepWatch

Signal = Literal["outputs", "gradients"]

LIMITS: Mapping[Signal, tuple[float, float]] = {"outputs": (0.01, 100.0), "gradients": (0.01, 3_000.0)}
"""The ratios that are in bounds.

Of relu MLPs with eight layers those train whose outputs change by .09 to 11 times on the way; those with .002 and 190 do not, nor
do 22 layers with Xavier's rule, 7e-4. Gradients of networks with batch normalization grow by up to 750 times (ResNet-1202), and
they train; by 11,000 times in 56 plain layers, which train badly, and by 70,000 in ten tanh layers of standard deviation 1.
"""

FEWEST = 2
"""Layers before the classifier; of fewer nothing can be said."""


@dataclass
class _Layer:
    """What one layer did: scalars on the device, from which the host computes the rest at the end.

    Float64 where squares of small numbers would underflow float32.

    Args:
        total, length: the sum of its outputs, and the root of the sum of their squares.
        weights: how many of its weights are not 0.
        gradient: its length; None where none came back.
    """

    name: str
    count: int
    total: Tensor
    length: Tensor
    weights: Tensor
    gradient: Tensor | None = None

    @property
    def scalars(self) -> list[Tensor]:
        return [self.total, self.length, self.weights, self.length if self.gradient is None else self.gradient]


class FirstStep(StepWatch):
    """Watches the layers of a network in one forward pass, and in the backward pass that belongs to it.

    It draws no random number and changes none. The classifier, auxiliary heads and layers that return no tensor are left out.
    """

    def __init__(self, model: nn.Module) -> None:
        names = part_names(model)
        left_out = ("heads.", f"{names[-1]}.") if names else ()
        found = {weight.name.rpartition(".")[0]: weight for weight in weights(model)}
        self._watched = {
            name: (weight.module, weight.attribute)
            for name, weight in found.items()
            if not f"{name}.".startswith(left_out)
        }
        self._layers: dict[str, _Layer] = {}

    @property
    def says_something(self) -> bool:
        """Whether there are layers enough."""
        return len(self._watched) >= FEWEST

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The forward pass is within."""
        hooks = [
            module.register_forward_hook(self._after(name, attribute))
            for name, (module, attribute) in self._watched.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def health(self) -> InitHealth | None:
        """What was seen, after the backward pass; None where too few layers were called."""
        layers = list(self._layers.values())
        self._layers.clear()
        if len(layers) < FEWEST:
            return None
        # one transfer: on a GPU each waits for all work in flight
        rows = torch.stack([scalar for layer in layers for scalar in layer.scalars]).view(len(layers), -1).tolist()
        outputs, gradients = [], []
        for layer, (total, length, weights_there, gradient) in zip(layers, rows, strict=True):
            if weights_there:
                outputs.append((layer.name, _std(total, length, layer.count)))
            if layer.gradient is not None:
                gradients.append((layer.name, gradient))
        return judged(layers[0].name, outputs, gradients)

    def _after(self, name: str, attribute: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if name in self._layers or not isinstance(output, Tensor):
                return
            with torch.no_grad():
                layer = self._layers[name] = _Layer(
                    name,
                    output.numel(),
                    output.sum(dtype=torch.float64),
                    torch.linalg.vector_norm(output, dtype=torch.float64),
                    getattr(module, attribute).count_nonzero(),
                )
            if output.requires_grad:
                output.register_hook(_gradient_of(layer))  # type: ignore[no-untyped-call]

        return hook


def judged(first: str, outputs: Sequence[tuple[str, float]], gradients: Sequence[tuple[str, float]]) -> InitHealth:
    """The health of an initialization from the strength of its signals.

    Args:
        first: the name of the first layer.
        outputs: (layer, standard deviation), first layer first, without layers whose weights are all zero: a branch that
            begins as the identity is no sign of anything.
        gradients: (layer, length), first layer first. All zero say nothing: the classifier begins with zeros.
    """
    if not outputs:
        return {"verdict": "vanishing", "layer": first, "signal": "outputs", "ratio": 0.0}
    found = _through(outputs, "outputs")
    if found is None:
        back = gradients[::-1]
        while back and back[0][1] == 0:
            back = back[1:]
        found = _through(back, "gradients")
    return found or {"verdict": "ok"}


def _through(signal: Sequence[tuple[str, float]], name: Signal) -> InitHealth | None:
    """Where a signal that goes from layer to layer is lost for good, or out of bounds for good."""
    for layer, strength in signal:
        if not math.isfinite(strength):
            return {"verdict": "exploding", "layer": layer, "signal": name, "ratio": None}
    if len(signal) < FEWEST:
        return None
    ratios = [(layer, _ratio(strength, signal[0][1])) for layer, strength in signal]
    least, most = LIMITS[name]
    end = float(f"{ratios[-1][1]:.2g}") if math.isfinite(ratios[-1][1]) else None
    if (lost := _for_good(ratios, lambda ratio: ratio < least)) is not None:
        return {"verdict": "vanishing", "layer": lost, "signal": name, "ratio": end}
    if (beyond := _for_good(ratios, lambda ratio: ratio > most)) is not None:
        return {"verdict": "exploding", "layer": beyond, "signal": name, "ratio": end}
    return None


def _for_good(ratios: Sequence[tuple[str, float]], is_out: Callable[[float], bool]) -> str | None:
    """The layer from which on all ratios are out of bounds."""
    outside = list(itertools.takewhile(lambda one: is_out(one[1]), reversed(ratios)))
    return outside[-1][0] if outside else None


def _ratio(strength: float, first: float) -> float:
    return strength / first if first > 0 else 0.0


def _std(total: float, length: float, count: int) -> float:
    mean_square, mean = length * length / count, total / count
    return math.sqrt(max(mean_square - mean * mean, 0.0)) if math.isfinite(mean_square) else math.inf


def _gradient_of(layer: _Layer) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        if layer.gradient is None:
            with torch.no_grad():
                layer.gradient = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float64)

    return hook
