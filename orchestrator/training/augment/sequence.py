"""Several augmentations, one after the other."""

from __future__ import annotations

import functools
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import orchestrator.training.augment as methods
from orchestrator.base import yaml_files
from orchestrator.base.build import build
from orchestrator.base.errors import ConfigError, nearest
from orchestrator.base.settings import CONF
from orchestrator.training.augment import Augment, Mixing, fitted

HELPERS = ("pixels", "sequence", "warp", "window")

ALSO_CALLED = {"horizontal_flip": "flip", "padded_crop": "crop"}
"""Another name of a choice -> the file that it is in."""


def sequence(*, steps: Sequence[str | Mapping[str, Any]]) -> Augment:
    """The steps in their order.

    Args:
        steps: names of augmentations, as in `[flip, cutout]`, or with arguments, as in `[flip, {cutout: {size: 0.25}}]`; a list
            of the catalogue, such as `standard_cifar`, stands for its steps. What mixes examples (mixup) comes last: it works on
            preprocessed images.

    Raises:
        ValueError: there is no such augmentation, one refuses its arguments, or something follows a step that mixes.
    """
    steps = [single for step in steps for single in _singles(step)]
    made = tuple(_step(step) for step in steps)
    for place, step in enumerate(made[:-1]):
        if isinstance(step, Mixing):
            raise ValueError(f"{_name(steps[place])} mixes preprocessed images: put it last")
    return (_MixingSequence if made and isinstance(made[-1], Mixing) else _Sequence)(made)


Step = str | Mapping[str, Any]


def _singles(step: Step) -> list[Step]:
    """The steps of a list of the catalogue; any other step is itself."""
    name = _name(step)
    if name in _single_names() or name not in _lists():
        return [step]
    inside = _lists()[name]
    if not isinstance(step, str) and step[name]:
        raise ValueError(f"{name} is a list and takes no arguments; write its steps instead: {_typed(inside)}")
    return inside


@functools.cache
def _single_names() -> frozenset[str]:
    """The augmentations that are no list."""
    return frozenset({module.name for module in pkgutil.iter_modules(methods.__path__)} - {*HELPERS} | {*ALSO_CALLED})


@functools.cache
def _lists() -> dict[str, list[Step]]:
    """The choices of the catalogue that are lists themselves, by name."""
    specs = {path.stem: yaml_files.read(path) for path in sorted((CONF / "augment").glob("*.yaml"))}
    of_lists = {name: spec["steps"] for name, spec in specs.items() if spec.get("_target_", "").endswith(".sequence")}
    return {name: steps for name, steps in of_lists.items() if name != "sequence"}


def _typed(steps: Sequence[Step]) -> str:
    """As it is typed: `[{crop: {padding: 4}},flip]`."""
    return json.dumps(steps).replace('"', "").replace(", ", ",")


def _name(step: Step) -> str:
    return step if isinstance(step, str) else ", ".join(map(str, step))


def _step(step: Step) -> Augment:
    if isinstance(step, str):
        step = {step: {}}
    if len(step) != 1:
        raise ValueError(f"a step is a name, or a name with its arguments; got {dict(step)}")
    ((name, arguments),) = step.items()
    if name not in _single_names():
        known = sorted({*_single_names(), *_lists()})
        near = nearest(str(name), known)
        raise ValueError(
            f"there is no augmentation {name!r} for a list{f'; nearest: {near}' if near else ''}; known: {', '.join(known)}"
        )
    if not isinstance(arguments or {}, Mapping):
        raise ValueError(
            f"the arguments of {name} must be a mapping, as in {{{name}: {{argument: value}}}}; got {arguments}"
        )
    try:
        file = ALSO_CALLED.get(name, name)
        made: Augment = build({"_target_": f"{methods.__name__}.{file}.{file}", **(arguments or {})})
    except ConfigError as error:
        raise ValueError("; ".join(f"{name}.{problem.key}: {problem.why}" for problem in error.problems)) from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return made


@dataclass(frozen=True)
class _Sequence:
    steps: tuple[Augment, ...]

    def fitted(self, images: np.ndarray, ids: np.ndarray) -> _Sequence:
        return replace(
            self, steps=tuple(made for step in self.steps if (made := fitted(step, images, ids)) is not None)
        )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.steps:
            images = step(images, generator)
        return images


class _MixingSequence(_Sequence):
    def mix(self, images: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        last = self.steps[-1]
        assert isinstance(last, Mixing)
        return last.mix(images, labels, classes, generator)
