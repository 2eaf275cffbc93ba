"""Every architecture by its name: `create("mlp", num_classes=10, in_channels=1, image_size=(8, 8), hidden=3)`.

The names are the files of conf/model, each with the function that builds the network and its values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from csv import DictReader
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from models.description import Description
    from models.layers.activation import Activation
    from models.layers.norm import Norm

CHOICES = Path(__file__).resolve().parents[1] / "conf" / "model"
FIGURES = Path(__file__).with_name("figures.csv")

NOT_ARGUMENTS = ("_target_", "search", "paper")
"""Keys of a file that are no arguments: the function, the usual ranges, and the images and classes of the paper."""

EXAMPLES: dict[str, tuple[str, tuple[int, int, int], dict[str, bool]]] = {
    "inception_module": ("models.googlenet.inception_module_example", (256, 28, 28), {"naive": False}),
    "naive_inception_module": ("models.googlenet.inception_module_example", (256, 28, 28), {"naive": True}),
}
"""Parts of networks whose cost the lectures work out: name -> function, (channels, height, width) of its input, its arguments."""


def names() -> list[str]:
    """The architectures, sorted."""
    return sorted(path.stem for path in CHOICES.glob("*.yaml"))


def create(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | str | None = None,
    activation: Activation | str | None = None,
    **own: Any,
) -> nn.Module:
    """The network `name`, from images (N, in_channels, height, width) to logits (N, num_classes) or `Outputs`.

    Args:
        image_size: (height, width).
        norm: None is the architecture's own, `"none"` none at all; a name of conf/norm, or what a function of
            `models.layers.norm` gives.
        activation: None is the architecture's own; a name of conf/activation, or what a function of
            `models.layers.activation` gives.
        own: the architecture's own arguments, such as `depth` or `width`; without one, the value of its file applies.

    Raises:
        ValueError: no such name, an argument that the architecture does not have, a setting outside its range, a choice that
            makes no sense for it, or images too small for it.
    """
    from models.checks import at_least

    function, values, _ = _choice(name)
    _check_names(name, function, own)
    if not (isinstance(image_size, tuple | list) and len(image_size) == 2):
        raise ValueError(f"image_size must be (height, width), got {image_size!r}")
    for key, number in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", min(image_size))):
        if type(number) is not int:
            raise ValueError(f"{key} must be a whole number, got {number!r}")
        at_least(key, number, 1)
    model: nn.Module = function(
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=tuple(image_size),
        norm=_part("norm", norm),
        activation=_part("activation", activation),
        **values | own,
    )
    return model


def _part(group: str, value: Any) -> Any:
    """A norm or activation, which may be given by the name of its file."""
    if not isinstance(value, str):
        return value
    folder = CHOICES.parent / group
    there = sorted(path.stem for path in folder.glob("*.yaml"))
    if value not in there:
        nearest = get_close_matches(value, there, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(there)}"
        raise ValueError(f"no {group} is called {value!r}; {hint}")
    spec = _read(folder / f"{value}.yaml")
    if not spec:
        return None
    module, _, function = spec["_target_"].rpartition(".")
    return getattr(import_module(module), function)(**{k: v for k, v in spec.items() if k not in NOT_ARGUMENTS})


def describe(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    image_size: tuple[int, int] | None = None,
    norm: Norm | str | None = None,
    activation: Activation | str | None = None,
    **own: Any,
) -> Description:
    """What the network `name` costs: parameters, multiply-adds, activation memory, depth, receptive field, each layer.

    It is built on the meta device, so that the largest takes neither memory nor more than a second or two.

    Args:
        num_classes, image_size: those of the paper where absent, which stand in the file of the architecture; else 10
            classes of 32x32 images.

    Raises:
        ValueError: as for `create`.
    """
    import torch

    from models.checks import ImageTooSmallError
    from models.description import describe_network
    from models.tracing import Tracer

    paper = _choice(name)[2]
    num_classes = paper.get("num_classes", 10) if num_classes is None else num_classes
    size = image_size or (paper.get("image_size", 32),) * 2
    parts: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels, "norm": norm, **own}
    smallest = 1
    with torch.device("meta"), Tracer():
        try:
            create(name, image_size=(1, 1), activation=activation, **parts)
        except ImageTooSmallError as error:
            smallest = error.minimum
        model = create(name, image_size=size, activation=activation, **parts)
    return describe_network(model, in_channels=in_channels, image_size=size, smallest_image=smallest)


def describe_example(name: str) -> Description:
    """What one of `EXAMPLES` costs."""
    import torch

    from models.description import describe_network

    place, (channels, *size), own = EXAMPLES[name]
    module, _, function = place.rpartition(".")
    with torch.device("meta"):
        part = getattr(import_module(module), function)(**own)
    return describe_network(part, in_channels=channels, image_size=(size[0], size[1]))


def paper(name: str) -> dict[str, int]:
    """`image_size` and `num_classes` of the paper, as far as the file of an architecture gives them; {} for any other name."""
    path = CHOICES / f"{name}.yaml"
    return dict(_read(path).get("paper", {})) if path.is_file() else {}


def figures() -> dict[str, dict[str, int]]:
    """Name -> what `describe` gives for each architecture at the images and classes of its paper.

    They are read from a file, as working them out for all takes a while: `python -m models.figures` writes it.
    """
    with FIGURES.open(encoding="utf-8", newline="") as file:
        return {row.pop("name"): {key: int(value) for key, value in row.items()} for row in DictReader(file)}


def _read(path: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _choice(name: str) -> tuple[Callable[..., nn.Module], dict[str, Any], dict[str, Any]]:
    """The function that builds an architecture, the values of its file, and what the paper's figures are for."""
    if name not in names():
        nearest = get_close_matches(name, names(), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(names())}"
        raise ValueError(f"no model is called {name!r}; {hint}")
    spec = _read(CHOICES / f"{name}.yaml")
    module, _, function = spec["_target_"].rpartition(".")
    values = {key: value for key, value in spec.items() if key not in NOT_ARGUMENTS}
    return getattr(import_module(module), function), values, spec.get("paper", {})


KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
}
"""Annotation -> the types that it takes, and what it is in words."""


def _is_of_kind(value: object, annotation: str) -> bool:
    types, _ = KINDS.get(annotation, ((object,), ""))
    return isinstance(value, types) and (isinstance(value, bool) <= (bool in types or object in types))


def _check_names(name: str, function: Callable[..., nn.Module], own: Mapping[str, Any]) -> None:
    known = signature(function).parameters
    for key, value in own.items():
        if key in known and not _is_of_kind(value, str(known[key].annotation)):
            raise ValueError(f"{name}: {key} must be {KINDS[str(known[key].annotation)][1]}, got {value!r}")
        if key not in known:
            reason = getattr(function, "takes_no", {}).get(key)
            raise ValueError(f"{name} takes no {key}" + (f": {reason}" if reason else f"; it takes {', '.join(known)}"))


def facts(model: nn.Module) -> dict[str, list[Any]]:
    """What the layers of a built network decided from their sizes, as plain data that JSON can hold.

    Each module whose class has a method `own_facts() -> {name: value}` adds to it; each value stands once, sorted.
    So far `group_norm`: [channels, groups asked for, groups in force], because the number asked for may not divide the
    channels.
    """
    found: dict[str, list[Any]] = {}
    for module in model.modules():
        if hasattr(type(module), "own_facts"):
            for name, value in module.own_facts().items():  # type: ignore[operator]
                values = found.setdefault(name, [])
                if value not in values:
                    values.append(value)
    return {name: sorted(values) for name, values in sorted(found.items())}
