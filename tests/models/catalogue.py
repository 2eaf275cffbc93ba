"""The choices in conf for tests over the catalogue: families, and each at its smallest member."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import models
from models.checks import ImageTooSmallError

CONF = Path(__file__).parents[2] / "conf"


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def load(group: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text()) or {}
    return spec


def target(spec: dict[str, Any]) -> Callable[..., Any]:
    module, function = spec["_target_"].rsplit(".", 1)
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in models.NOT_ARGUMENTS}


def smallest_arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a choice, with each whole number, and the width, at the low end of its usual range."""
    found = arguments(spec)
    for key, text in spec.get("search", {}).items():
        if type(found.get(key)) is int or (key == "width" and key in found):
            kind, numbers = re.fullmatch(r".*\b(range|choice|interval)\(([^()]*)\).*", text).groups()  # type: ignore[union-attr]
            values = [float(number) for number in numbers.split(",")]
            found[key] = type(found[key])(min(values) if kind == "choice" else values[0])
    return found


def build(group: str, name: str) -> Any:
    spec = load(group, name)
    return target(spec)(**arguments(spec)) if spec else None


def smallest_network(name: str, **provided: Any) -> nn.Module:
    """The network of a choice of conf/model at its `smallest_arguments`.

    Args:
        provided: what is no argument of its own: classes, channels, image size, norm, activation.
    """
    spec = load("model", name)
    model: nn.Module = target(spec)(**provided, **smallest_arguments(spec))
    return model


@cache
def smallest_image(name: str) -> int:
    try:
        with torch.device("meta"):
            smallest_network(name, num_classes=5, in_channels=3, image_size=(1, 1))
    except ImageTooSmallError as error:
        return error.minimum
    return 1


def families() -> list[str]:
    """Of the names that share a function and the arguments that are text or flags, the one with the smallest numbers."""
    members: dict[str, list[str]] = {}
    for name in choices("model"):
        spec = load("model", name)
        kinds = {key: value for key, value in arguments(spec).items() if isinstance(value, str | bool)}
        members.setdefault(f"{spec['_target_']} {kinds}", []).append(name)
    return [min(names, key=total) for names in members.values()]


def total(name: str) -> float:
    """The sum of all numbers among a network's arguments."""
    numbers = re.findall(r"\b\d+(?:\.\d+)?\b", str(list(smallest_arguments(load("model", name)).values())))
    return sum(map(float, numbers))


FAMILIES = families()
