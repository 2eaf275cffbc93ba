"""Which `_target_` may be built: one of the catalogue, a public class of `torch.nn` or `torch.optim`, or what the user allows.

The literal name decides, before anything is imported. What it leads to is looked at again before it is called.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from orchestrator.base.errors import ConfigError, Problem, nearest
from orchestrator.base.rights import Rights, in_force
from orchestrator.base.settings import CONF

TORCH = ("torch.nn", "torch.optim", "torch.optim.lr_scheduler")
"""Modules of which every public class may be named, `torch.nn.Linear`; nothing deeper."""

OUR_PACKAGE = "orchestrator"
"""Of this package the catalogue's targets alone can be named: no user can allow others."""

MAX_LENGTH = 200

ARCHIVED = "catalogue.txt"
"""Beside this module in an archive that has no `conf/`: the targets of the catalogue."""

FORMER: Mapping[str, str] = {
    "orchestrator.settings": "orchestrator.config.settings",
}
"""Where a module was called otherwise in sweeps of earlier versions: former name -> name today. A line here is never removed."""


def resolve(target: object) -> Callable[..., Any]:
    """The function or class that a dotted name stands for.

    Raises:
        ConfigError: it is no name, nobody allows it, or it cannot be imported, is not there (nearest name given), or is something
            else.
    """
    if not isinstance(target, str):
        raise ConfigError(Problem("_target_", "must be a dotted name such as models.mlp.mlp", target))
    name = current_name(target)
    rights = in_force()
    if why := refusal(name, rights):
        raise _wrong(target, why)
    if name in catalogue_targets():
        return _found(target, *name.rsplit(".", 1))
    if (package := _torch_package(name)) is not None:
        return _torch_class(target, package, name.rsplit(".", 1)[1])
    return _allowed_object(target, name, rights)


def refusal(name: str, rights: Rights) -> str | None:
    """Why nothing of this name may be imported, or None where it may."""
    parts = name.split(".")
    if len(name) > MAX_LENGTH or len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return "must be a dotted name such as models.mlp.mlp"
    if any(part.startswith("_") for part in parts):
        return "is private: a part begins with an underscore"
    if name in catalogue_targets() or _torch_package(name) is not None:
        return None
    if parts[0] != OUR_PACKAGE and _is_below(name, rights.targets):
        return None
    open_to_all = f"targets of the catalogue and public classes of {', '.join(TORCH[:-1])} and {TORCH[-1]}"
    if parts[0] == OUR_PACKAGE:
        return f"is not allowed: of {OUR_PACKAGE} a choice may name what the catalogue names"
    return (
        f"is not allowed; if it is yours, add allowed_targets=[{name}] to the command, and import_paths=[FOLDER] where"
        f" it lies elsewhere (open to all: {open_to_all})"
    )


@functools.cache
def catalogue_targets() -> frozenset[str]:
    """Every target that a choice in our own `conf/` names. A user's folder adds none."""
    found: set[str] = set()
    if not CONF.is_dir():  # within the archive of a served model, which holds the list alone
        with contextlib.suppress(OSError):
            found.update((pkgutil.get_data("orchestrator.base", ARCHIVED) or b"").decode().split())
    for path in CONF.glob("*/*.yaml"):
        found.update(re.findall(r"^_target_: ([\w.]+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    return frozenset(found)


def targets_in(tree: Any) -> list[str]:
    """Every `_target_` in plain data, each once."""
    found: dict[str, None] = {}
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            if isinstance(name := node.get("_target_"), str):
                found[name] = None
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node
    return sorted(found)


def current_name(target: str) -> str:
    """The dotted name that a target of an earlier version has today."""
    module, _, name = target.rpartition(".")
    if target in FORMER:
        return FORMER[target]
    return f"{FORMER[module]}.{name}" if module in FORMER else target


def with_current_names(tree: Any) -> Any:
    """Plain data in which every `_target_` has the name of today; the way in for what an earlier version wrote."""
    if isinstance(tree, Mapping):
        return {
            key: current_name(value) if key == "_target_" and isinstance(value, str) else with_current_names(value)
            for key, value in tree.items()
        }
    return [with_current_names(item) for item in tree] if isinstance(tree, list) else tree


def _torch_package(name: str) -> str | None:
    """The module of `TORCH` that a name lies in directly."""
    package = name.rpartition(".")[0]
    return package if package in TORCH else None


def _torch_class(target: str, package: str, name: str) -> Callable[..., Any]:
    """A class that is defined in torch's module or below it, not one that is imported there."""
    module = importlib.import_module(package)
    found = vars(module).get(name)
    if not isinstance(found, type) or not _is_below(found.__module__, [package]):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and not key.startswith("_")]
        near = nearest(name, classes)
        raise _wrong(target, f"is not a class of {package}", near and f"{package}.{near}")
    return found


def _allowed_object(target: str, name: str, rights: Rights) -> Callable[..., Any]:
    """What the user allows: defined below a package of theirs, unless they allow this very name."""
    parts = name.split(".")
    module, depth = _imported(target, parts)
    found: Any = module
    for place, part in enumerate(parts[depth:], start=depth):
        found = _attribute(target, found, ".".join(parts[:place]), part)
    if isinstance(found, ModuleType) or not callable(found):
        raise _wrong(target, "is not a function or class")
    home = getattr(found, "__module__", None)
    tops = [entry.split(".")[0] for entry in rights.targets if _is_below(name, [entry])]
    if name not in rights.targets and not (isinstance(home, str) and _is_below(home, tops)):
        raise _wrong(target, f"is not allowed: it is defined in {home or 'a library'}")
    return typing.cast("Callable[..., Any]", found)


def _imported(target: str, parts: list[str]) -> tuple[ModuleType, int]:
    """The module that the longest part of a name leads to, and how many parts that is."""
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            return importlib.import_module(name), end
        except ModuleNotFoundError as error:
            if error.name is None or not _is_below(name, [error.name]):
                raise _wrong(target, f"cannot be imported: {error}") from error
        except Exception as error:  # the user's own module may raise anything while it is imported
            raise _wrong(target, f"cannot be imported: {type(error).__name__}: {error}") from error
    where = "import_paths=[FOLDER] names the folder of a module of your own"
    raise _wrong(target, f"no module named {parts[0]}; {where}")


def _found(target: str, module: str, name: str) -> Callable[..., Any]:
    """What a target of the catalogue names."""
    return typing.cast("Callable[..., Any]", _attribute(target, importlib.import_module(module), module, name))


def _attribute(target: str, owner: Any, stem: str, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        if isinstance(owner, ModuleType) and getattr(owner, "__file__", None) is None:
            here = next(iter(getattr(owner, "__path__", ())), "here")
            why = f"{stem} is the folder {here}, no module; import_paths=[FOLDER] names the folder in which the module lies"
            raise _wrong(target, why) from None
        near = nearest(name, [known for known in dir(owner) if not known.startswith("_")])
        raise _wrong(target, f"{stem} has no {name}", near and f"{stem}.{near}") from None


def _is_below(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in (prefix.rstrip(".") for prefix in prefixes) if p)


def _wrong(target: str, why: str, near: str | None = None) -> ConfigError:
    return ConfigError(Problem("_target_", why, target, near))
