"""`_target_` to object, strictly: a target's signature and annotations are the schema of its YAML.

A spec is `{"_target_": "models.mlp.mlp", "width": 100, ...}`; `{}` builds None. Stdlib only.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from orchestrator.base.errors import ConfigError, Problem, nearest

PREFIXES = ("models", "orchestrator", "torch")
"""Packages that a `_target_` may name without being allowed by the user."""

FORMER: Mapping[str, str] = {
    "orchestrator.settings": "orchestrator.config.settings",
}
"""Where a module was called otherwise in sweeps of earlier versions: former name -> name today. A line here is never removed."""

FORMER_FACTORS: Mapping[str, Mapping[str, str]] = {
    "models.initializers.gaussian.gaussian": {"scale": "std"},
}
"""Target -> argument of earlier versions -> the argument that it multiplied.

Recorded sweeps hold such arguments; nobody can set them anew. A line here is never removed.
"""

REFUSED = ("torch.hub", "torch.load", "torch.package", "torch.utils.cpp_extension", "torch.utils.model_zoo")
"""Parts of an allowed package that fetch or execute what a YAML names."""


def build(spec: Mapping[str, Any], *, allowed: Collection[str] = (), **provided: Any) -> Any:
    """The object that `spec` describes, or None for `{}`.

    Args:
        provided: what the caller supplies (`num_classes=10`); a name that the target does not take is left out.

    Raises:
        ConfigError: the target is not allowed or not there, or an argument is unknown, missing or of the wrong type.
        ValueError: the target refused a value.
    """
    if not spec:
        return None
    spec = with_current_arguments(spec)
    if problems := check("", spec, provided=provided, allowed=allowed):
        raise ConfigError(problems)
    target = resolve(spec["_target_"], allowed)
    known = _signature(target)
    own = {name: convert(spec[name], known[name].annotation) for name in spec if name != "_target_"}
    return target(**own, **{name: value for name, value in provided.items() if name in known or _takes_any(target)})


def check(
    key: str, spec: Mapping[str, Any], *, provided: Collection[str] = (), allowed: Collection[str] = ()
) -> list[Problem]:
    """What is wrong with `spec`, as far as can be seen without calling its target; `key` leads each problem's key."""
    if not spec:
        return []
    if not isinstance(spec, Mapping):
        return [Problem(key, "must be a mapping with a _target_", spec)]
    dot = f"{key}." if key else ""
    target_name = spec.get("_target_")
    if not isinstance(target_name, str):
        return [Problem(f"{dot}_target_", "is missing: the dotted name of a function or class", target_name)]
    try:
        known = parameters(resolve(target_name, allowed), provided)
    except ConfigError as error:
        return [Problem(f"{dot}{p.key}", p.why, p.value, p.nearest) for p in error.problems]
    problems = []
    for name, value in spec.items():
        if name == "_target_":
            continue
        if name in provided:
            problems.append(Problem(f"{dot}{name}", "is supplied by the training engine and cannot be set", value))
        elif name not in known:
            problems.append(unknown_key(f"{dot}{name}", value, known, dot))
        elif why := mismatch(value, known[name].annotation):
            problems.append(Problem(f"{dot}{name}", why, _shown(value)))
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in spec:
            must = describe(parameter.annotation)
            problems.append(Problem(f"{dot}{name}", f"is required by {target_name} and must be {must}"))
    return problems


def resolve(target: str, allowed: Collection[str] = ()) -> Callable[..., Any]:
    """The function or class that a dotted name stands for.

    Raises:
        ConfigError: outside `PREFIXES` and `allowed`, not importable, not there (nearest name given), or not callable.
    """

    def wrong(why: str, near: str | None = None) -> ConfigError:
        return ConfigError(Problem("_target_", why, target, near))

    prefixes = (*PREFIXES, *allowed)
    if not all(part.isidentifier() for part in target.split(".")) or "." not in target:
        raise wrong("must be a dotted name such as models.mlp.mlp")
    if not _below(target, prefixes) or _below(target, REFUSED):
        raise wrong(
            f"is not allowed; a target lies in {', '.join(f'{p}.' for p in PREFIXES)} or in what allowed_targets names"
            " (on the command line or in your own settings file)"
        )
    parts = current_name(target).split(".")
    module = None
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            module = importlib.import_module(name)
            break
        except ModuleNotFoundError as error:
            if error.name is None or not _below(name, (error.name,)):
                raise wrong(f"cannot be imported: {error}") from error
        except Exception as error:  # the user's own module may raise anything while it is imported
            raise wrong(f"cannot be imported: {type(error).__name__}: {error}") from error
    if module is None:
        raise wrong(f"no module named {parts[0]}")
    found: Any = module
    for place, part in enumerate(parts[end:], start=end):
        if not hasattr(found, part):
            near = nearest(part, [n for n in dir(found) if not n.startswith("_")])
            stem = ".".join(parts[:place])
            raise wrong(f"{stem} has no {part}", near and f"{stem}.{near}")
        found = getattr(found, part)
    # `torch.os.system` must not lead out of what is allowed
    home = getattr(found, "__module__", None) or module.__name__
    if isinstance(found, types.ModuleType) or not callable(found):
        raise wrong("is not a function or class")
    if not _below(home, [prefix.split(".")[0] for prefix in prefixes]):
        raise wrong(f"is not allowed: it is defined in {home}")
    return typing.cast("Callable[..., Any]", found)


def current_name(target: str) -> str:
    """The dotted name that a target of an earlier version has today."""
    module, _, name = target.rpartition(".")
    if target in FORMER:
        return FORMER[target]
    return f"{FORMER[module]}.{name}" if module in FORMER else target


def with_current_arguments(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded spec with the arguments that its target has today; it builds the same, bit for bit."""
    former = FORMER_FACTORS.get(current_name(str(spec.get("_target_"))), {})
    if not former.keys() & spec.keys():
        return spec
    current = {name: value for name, value in spec.items() if name not in former}
    for name, multiplied in former.items():
        if name in spec and multiplied in spec:
            current[multiplied] = spec[name] * spec[multiplied]
    return current


def with_current_names(tree: Any) -> Any:
    """Plain data in which every `_target_` has the name of today; the way in for what an earlier version wrote."""
    if isinstance(tree, Mapping):
        return {
            key: current_name(value) if key == "_target_" and isinstance(value, str) else with_current_names(value)
            for key, value in tree.items()
        }
    return [with_current_names(item) for item in tree] if isinstance(tree, list) else tree


def parameters(target: Callable[..., Any], provided: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """The arguments of `target` that a YAML may set: all but those that the engine supplies, annotations evaluated."""
    return {name: p for name, p in _signature(target).items() if name not in provided}


def mismatch(value: object, annotation: Any) -> str | None:
    """Why `value` does not fit `annotation` ("must be an integer"), or None; an annotation not understood fits all."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if isinstance(value, Mapping) and "_target_" in value:
        return "a _target_ inside an argument is not built"
    if _fits(value, annotation):
        return None
    if isinstance(value, list | tuple) and any(isinstance(v, float) and not math.isfinite(v) for v in value):
        return "must be finite"
    return f"must be {describe(annotation)}"


def convert(value: Any, annotation: Any) -> Any:
    """`value` as the annotated Python type, where JSON has no such type: tuples, and floats written as integers."""
    options = _options(annotation)
    if isinstance(value, int) and not isinstance(value, bool) and float in options and int not in options:
        return float(value)
    if isinstance(value, list):
        for option in options:
            if (get_origin(option) or option) is tuple and _fits(value, option):
                return tuple(convert(v, a) for v, a in zip(value, _items(option, len(value)), strict=True))
    return value


def describe(annotation: Any) -> str:
    """An annotation in words: "an integer", "one of mean, sum", "a number or null"."""
    return " or ".join(dict.fromkeys(_describe(option) for option in _options(annotation)))


def unknown_key(key: str, value: object, known: Iterable[str], dot: str = "") -> Problem:
    """The problem of a key that nothing has, with the nearest and all the known ones."""
    names = sorted(known)
    near = nearest(key.removeprefix(dot), names)
    why = f"unknown key; known: {', '.join(names)}" if names else "unknown key; there is nothing to set here"
    return Problem(key, why, _shown(value), near and dot + near)


def use_import_paths(paths: Iterable[str]) -> None:
    """Make modules of the user's own folders importable; last on the path, so that they shadow nothing."""
    for path in paths:
        if path not in sys.path:
            sys.path.append(path)


def _below(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in (prefix.rstrip(".") for prefix in prefixes) if p)


@functools.lru_cache
def _signature(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(target, eval_str=True)
    except NameError:  # an annotation imported for type checkers only: fall back to what can be read
        signature = inspect.signature(target)
    except ValueError as error:
        raise ConfigError(Problem("_target_", "has no signature that could be checked", str(target))) from error
    usable = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in signature.parameters.items() if p.kind in usable}


@functools.lru_cache
def _takes_any(target: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())


def _options(annotation: Any) -> list[Any]:
    """The members of a union, flattened; any other annotation alone."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for member in get_args(annotation) for option in _options(member)]
    if get_origin(annotation) is typing.Annotated:
        return _options(get_args(annotation)[0])
    return [annotation]


def _fits(value: object, annotation: Any) -> bool:
    return any(_fits_one(value, option) for option in _options(annotation))


def _fits_one(value: object, option: Any) -> bool:
    if option is None or option is types.NoneType:
        return value is None
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if option in (bool, str):
        return isinstance(value, option)
    origin = get_origin(option) or option
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(option))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Collection):
        return _fits_sequence(value, option)
    # an annotation that no YAML value can have (Tensor, Callable) does not fit; one not understood (Any, a string) does
    return origin in (Any, object) or not isinstance(origin, type) or isinstance(value, origin)


def _fits_sequence(value: object, option: Any) -> bool:
    if not isinstance(value, list | tuple):
        return False
    items = _items(option, len(value))
    return len(items) == len(value) and all(_fits(v, a) for v, a in zip(value, items, strict=True))


def _items(option: Any, length: int) -> list[Any]:
    """The annotation of each element of a sequence of `length`."""
    arguments = get_args(option)
    if not arguments:
        return [Any] * length
    if (get_origin(option) or option) is tuple and arguments[-1:] != (Ellipsis,):
        return list(arguments)
    return [arguments[0]] * length


_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    None: "null",
    types.NoneType: "null",
}
_PLURALS = {int: "integers", float: "numbers", bool: "true or false", str: "texts"}


def _describe(option: Any) -> str:
    if isinstance(option, type | None) and option in _WORDS:
        return _WORDS[option]
    if get_origin(option) is Literal:
        return "one of " + ", ".join("null" if a is None else str(a) for a in get_args(option))
    origin = get_origin(option) or option
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        arguments = get_args(option)
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)}: {', '.join(describe(a) for a in arguments)}"
        return "a list" + (f" of {_PLURALS.get(arguments[0], describe(arguments[0]))}" if arguments else "")
    return "a value" if option is inspect.Parameter.empty else getattr(option, "__name__", str(option))


def _shown(value: object) -> object:
    """A value as it goes into a message: null and empty text made visible."""
    return "null" if value is None else "''" if value == "" else value
