"""`_target_` to object, strictly: a target's signature and annotations are the schema of its YAML.

A spec is `{"_target_": "models.mlp.mlp", "width": 100, ...}`; `{}` builds None. Stdlib only.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin

from orchestrator.base.errors import ConfigError, Problem, nearest
from orchestrator.base.targets import current_name, resolve

FORMER_FACTORS: Mapping[str, Mapping[str, str]] = {
    "models.initializers.gaussian.gaussian": {"scale": "std"},
}
"""Target -> argument of earlier versions -> the argument that it multiplied.

Recorded sweeps hold such arguments; nobody can set them anew. A line here is never removed.
"""


def build(spec: Mapping[str, Any], **provided: Any) -> Any:
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
    if problems := check("", spec, provided=provided):
        raise ConfigError(problems)
    target = resolve(spec["_target_"])
    known = _signature(target)
    own = {name: convert(spec[name], known[name].annotation) for name in spec if name != "_target_"}
    return target(**own, **{name: value for name, value in provided.items() if name in known or _takes_any(target)})


def check(key: str, spec: Mapping[str, Any], *, provided: Collection[str] = ()) -> list[Problem]:
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
        known = parameters(resolve(target_name), provided)
    except ConfigError as error:
        return [replace(p, key=f"{dot}{p.key}") for p in error.problems]
    return check_arguments(key, {k: v for k, v in spec.items() if k != "_target_"}, known, provided=provided)


def check_arguments(
    key: str, own: Mapping[str, Any], known: Mapping[str, inspect.Parameter], *, provided: Collection[str] = ()
) -> list[Problem]:
    """What is wrong with arguments, by the signature that they are for."""
    dot = f"{key}." if key else ""
    problems = []
    for name, value in own.items():
        if name in provided:
            problems.append(Problem(f"{dot}{name}", "is supplied by the training engine and cannot be set", value))
        elif name not in known:
            problems.append(unknown_key(f"{dot}{name}", value, known, dot))
        elif why := mismatch(value, known[name].annotation):
            problems.append(Problem(f"{dot}{name}", why, _shown(value)))
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in own:
            must = describe(parameter.annotation)
            problems.append(Problem(f"{dot}{name}", f"is missing; write {dot}{name}=VALUE, {must}"))
    return problems


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


def parameters(target: Callable[..., Any], provided: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """The arguments of `target` that a YAML may set: all but those that the engine supplies, annotations evaluated."""
    return {name: p for name, p in _signature(target).items() if name not in provided}


def mismatch(value: object, annotation: Any) -> str | None:
    """Why `value` does not fit `annotation` ("must be an integer"), or None; an annotation not understood fits all."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if _holds_target(value):
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
    """The problem of a key that nothing has, with the nearest and the known ones."""
    names = tuple(sorted(known))
    near = nearest(key.removeprefix(dot), names)
    why = "unknown key" if names else "unknown key; there is nothing to set here"
    return Problem(key, why, _shown(value), near and dot + near, known=names)


@functools.lru_cache
def _signature(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(target, eval_str=True)
    except Exception:  # an annotation imported for type checkers only, or no expression: fall back to what can be read
        signature = _plain_signature(target)
    usable = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in signature.parameters.items() if p.kind in usable}


def _plain_signature(target: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(target)
    except (ValueError, TypeError) as error:
        raise ConfigError(Problem("_target_", "has no signature that could be checked", str(target))) from error


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


def _holds_target(value: object) -> bool:
    """Whether a `_target_` stands anywhere in plain data."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            if "_target_" in node:
                return True
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node
    return False


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
