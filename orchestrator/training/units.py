"""The units of a network: its residual blocks, or of a plain network what its stages are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.layers.residual import Residual
from models.network import Network
from models.tracing import Tracer


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

    @property
    def free(self) -> bool:
        """Whether the network computes something without it."""
        return self.residual or self.keeps_shape


def units_of(model: nn.Module, images: Tensor) -> list[Unit]:
    """In the order of computation; none where the network has neither residual blocks nor stages of several modules.

    Of residual blocks within residual blocks only the outer ones count.
    """
    residual, names = _named(model)
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
    return [Unit(name, residual, *found) for name, found in shapes.items()]


def units_for(model: nn.Module, image: Sequence[int]) -> list[Unit]:
    """`units_of`, for images [C, H, W], of a network in whatever mode, which may be on the meta device; nothing is drawn."""
    if not _named(model)[1]:
        return []
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.modules()}
    try:
        # the tracer knows shapes, for which torch would import its compiler
        with Tracer() if device.type == "meta" else nullcontext():
            return units_of(model.eval(), torch.zeros(1, *image, device=device))
    finally:
        for module, training in modes.items():
            module.training = training


def _named(model: nn.Module) -> tuple[bool, list[str]]:
    """Whether the units are residual, and their names."""
    residual = list(_outer_residual(model))
    return bool(residual), residual or _of_stages(model)


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


def alike(units: Sequence[Unit]) -> list[tuple[int, int]]:
    """The places of all pairs of units that keep the same shape."""
    keep = [place for place, unit in enumerate(units) if unit.keeps_shape]
    return [(one, two) for one in keep for two in keep if one < two and units[one].inputs == units[two].inputs]


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
