"""What a penalty is to the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

Activations: TypeAlias = Mapping[str, Sequence[Tensor]]
"""By the name of a module, what it returned in this step's forward pass, once for each time that it was called."""


class WeightPenalty(Protocol):
    """From the model to a scalar that is added to the loss before the gradient is taken; `train/loss` does not contain it."""

    def __call__(self, model: nn.Module) -> Tensor: ...


@runtime_checkable
class ActivationPenalty(Protocol):
    """A penalty that also sees what some modules return, part of the graph that is differentiated.

    `watches` is asked of every module of the model, by its name in `named_modules()`, at the start of each epoch.
    """

    def watches(self, name: str, module: nn.Module) -> bool: ...

    def __call__(self, model: nn.Module, activations: Activations) -> Tensor: ...


Penalty: TypeAlias = WeightPenalty | ActivationPenalty


@contextmanager
def watched(model: nn.Module, penalty: ActivationPenalty) -> Iterator[dict[str, list[Tensor]]]:
    """A dict that holds what the watched modules return, for the caller to clear before each forward pass."""
    found: dict[str, list[Tensor]] = {}
    hooks = [
        module.register_forward_hook(_append_to(found, name))
        for name, module in model.named_modules()
        if penalty.watches(name, module)
    ]
    try:
        yield found
    finally:
        found.clear()
        for hook in hooks:
            hook.remove()


def _append_to(found: dict[str, list[Tensor]], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        found.setdefault(name, []).append(output)

    return hook
