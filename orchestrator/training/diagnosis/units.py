"""The units of a network: its residual blocks, or of a plain network what its stages are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.layers.residual import Residual
from models.network import Network


@dataclass(frozen=True)
class Unit:
    """A unit, under its name in the network.

    Args:
        residual: whether it has a shortcut.
        inputs, outputs: shapes without the number of images.
    """

    name: str
    residual: bool
    inputs: torch.Size
    outputs: torch.Size

    @property
    def keeps_shape(self) -> bool:
        return self.inputs == self.outputs


def units_of(model: nn.Module, images: Tensor) -> list[Unit]:
    """In the order of computation; none where the network has neither residual blocks nor stages of several modules.

    Of residual blocks within residual blocks only the outer ones count.
    """
    residual = list(_outer_residual(model))
    names = residual or _of_stages(model)
    shapes: dict[str, tuple[torch.Size, torch.Size]] = {}

    def hook_of(name: str) -> Any:
        def seen(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
            if isinstance(inputs[0], Tensor) and isinstance(outputs, Tensor):
                shapes.setdefault(name, (inputs[0].shape[1:], outputs.shape[1:]))

        return seen

    handles = [model.get_submodule(name).register_forward_hook(hook_of(name)) for name in names]
    try:
        with torch.no_grad():
            model(images[:2])
    finally:
        for handle in handles:
            handle.remove()
    return [Unit(name, bool(residual), *found) for name, found in shapes.items()]


def _outer_residual(model: nn.Module) -> Iterator[str]:
    outer: str | None = None
    for name, module in model.named_modules():
        if isinstance(module, Residual) and not (outer is not None and name.startswith(f"{outer}.")):
            outer = name
            yield name


def _of_stages(model: nn.Module) -> list[str]:
    if not isinstance(model, Network):
        return []
    stages = [(name, model.get_submodule(name)) for name in model.parts if name.startswith("stage")]
    return [f"{name}.{child}" for name, stage in stages if isinstance(stage, nn.Sequential) for child in stage._modules]


@contextmanager
def without(model: nn.Module, units: Sequence[Unit]) -> Iterator[None]:
    """Within the block branches of residual units give 0, and plain units, which must keep the shape, what they are given."""
    handles = []
    for unit in units:
        if unit.residual:
            branch = model.get_submodule(f"{unit.name}.branch")
            handles.append(branch.register_forward_hook(lambda module, inputs, outputs: torch.zeros_like(outputs)))
    plain: Mapping[str, nn.Module] = {unit.name: nn.Identity() for unit in units if not unit.residual}
    try:
        with replaced(model, plain):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def replaced(model: nn.Module, others: Mapping[str, nn.Module]) -> Iterator[None]:
    """Within the block other modules stand under these names."""
    before = {name: model.get_submodule(name) for name in others}
    try:
        _put(model, others)
        yield
    finally:
        _put(model, before)


def _put(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        above, _, own = name.rpartition(".")
        model.get_submodule(above)._modules[own] = module


@contextmanager
def along_one_path(model: nn.Module, units: Sequence[Unit], through: frozenset[str]) -> Iterator[None]:
    """Within the block gradients go through the branches of the named residual units, and through the shortcuts of the others.

    What the network computes stays the same.
    """

    def cut(module: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
        return outputs.detach()

    handles = []
    for unit in units:
        part = "shortcut" if unit.name in through else "branch"
        handles.append(model.get_submodule(f"{unit.name}.{part}").register_forward_hook(cut))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
