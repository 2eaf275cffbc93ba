"""Plain data that a file brought, checked against the types of what it is to become: the one way in for all records.

The annotations of a dataclass or TypedDict are the schema; `Annotated[int, COUNT]` narrows a type. What does not fit is a
`DecodeError` that names the place, what stood there, and what belongs there.
"""

from __future__ import annotations

import functools
import json
import math
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import (
    Annotated,
    Any,
    Literal,
    NoReturn,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

MAX_CHARACTERS = 256 * 2**20
"""Of one record."""

MAX_DEPTH = 50
"""Of plain data within plain data, where an annotation leaves open what there is."""

Check = Callable[[Any, str], None]


class DecodeError(ValueError):
    """A record does not hold what belongs there; the message names the place."""


@dataclass(frozen=True)
class Fits:
    """Narrows an annotation: `Annotated[int, Fits(...)]`.

    Args:
        test: whether a value fits; it is asked about values of any type.
        must: completes "must be ...".
    """

    test: Callable[[Any], bool]
    must: str


def _is_number(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int or value in ("nan", "inf", "-inf")


LARGEST = 2**53
COUNT = Fits(lambda value: type(value) is int and 0 <= value <= LARGEST, "a count")
NUMBER = Fits(_is_number, "a number")
"""A number, or one that JSON cannot hold as text: "nan", "inf", "-inf"."""

TIME_MS = Fits(lambda value: type(value) is int and 0 <= value < 253_402_300_800_000, "milliseconds since 1970")
SHA256 = Fits(lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)), "a SHA-256")


def read_json(text: str | bytes) -> Any:
    """The plain data of a JSON text.

    Raises:
        DecodeError: it is none, too long, too deep, or holds a number that JSON has not.
    """
    if len(text) > MAX_CHARACTERS:
        raise DecodeError(f"is longer than {MAX_CHARACTERS:,} characters")
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise DecodeError("is nested too deep") from error
    except ValueError as error:  # also an integer of thousands of digits
        raise DecodeError(f"is not JSON ({error})") from error


def check(value: Any, annotation: Any, at: str = "") -> None:
    """Refuses a value that does not fit an annotation.

    Args:
        at: leads the place in the message, such as `epochs[3].metrics`.

    Raises:
        DecodeError: it does not fit.
    """
    _checker(annotation)(value, at)


def check_fields(instance: Any) -> None:
    """Refuses a dataclass whose fields do not fit their annotations.

    Raises:
        DecodeError: one does not fit.
    """
    values = instance.__dict__
    cls: Any = type(instance)
    for name, test in _checkers_of(cls):
        test(values[name], name)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _refuse(value: Any, must: str, at: str) -> NoReturn:
    shown = repr(value)
    raise DecodeError(f"{at or 'it'} must be {must}, got {shown if len(shown) <= 60 else shown[:57] + '...'}")


@functools.cache
def _checkers_of(cls: type) -> tuple[tuple[str, Check], ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple((one.name, _checker(hints[one.name])) for one in fields(cls))


@functools.cache
def _checker(annotation: Any) -> Check:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _narrowed(_checker(arguments[0]), [mark for mark in arguments[1:] if isinstance(mark, Fits)])
    if origin in (Union, types.UnionType):
        return _either([_checker(one) for one in arguments], arguments)
    if origin is Literal:
        return _exactly(arguments)
    if annotation in _SCALARS:
        test, must = _SCALARS[annotation]
        return _scalar(test, must)
    if annotation is Any:
        return _plain
    if is_typeddict(annotation):
        return _record(annotation)
    kind = origin or annotation
    if isinstance(kind, type):
        if issubclass(kind, Enum):
            return _scalar(lambda value: isinstance(value, kind), f"one of {', '.join(str(one.value) for one in kind)}")
        if issubclass(kind, Mapping):
            return _mapping(_checker(arguments[1]) if arguments else _plain)
        if kind is tuple and arguments[-1:] != (Ellipsis,):
            return _row([_checker(one) for one in arguments])
        if issubclass(kind, Sequence):
            return _list(_checker(arguments[0]) if arguments else _plain)
    raise TypeError(f"no record holds a {annotation}")


_SCALARS: Mapping[Any, tuple[Callable[[Any], bool], str]] = {
    int: (lambda value: type(value) is int, "an integer"),
    float: (lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max, "a number"),
    bool: (lambda value: type(value) is bool, "true or false"),
    str: (lambda value: isinstance(value, str), "text"),
    type(None): (lambda value: value is None, "null"),
}


def _scalar(test: Callable[[Any], bool], must: str) -> Check:
    def verify(value: Any, at: str) -> None:
        if not test(value):
            _refuse(value, must, at)

    return verify


def _exactly(options: Sequence[Any]) -> Check:
    return _scalar(
        lambda value: any(type(value) is type(one) and value == one for one in options),
        f"one of {', '.join(map(str, options))}",
    )


def _narrowed(inner: Check, marks: Sequence[Fits]) -> Check:
    def verify(value: Any, at: str) -> None:
        for mark in marks:
            if not mark.test(value):
                _refuse(value, mark.must, at)
        if not marks:
            inner(value, at)

    return verify


def _either(options: Sequence[Check], annotations: Sequence[Any]) -> Check:
    def verify(value: Any, at: str) -> None:
        if value is None and type(None) in annotations:
            return
        refused: DecodeError | None = None
        for option in options:
            try:
                option(value, at)
            except DecodeError as error:
                refused = refused or error
            else:
                return
        assert refused is not None
        raise refused

    return verify


def _mapping(of_value: Check) -> Check:
    def verify(value: Any, at: str) -> None:
        if not isinstance(value, Mapping):
            _refuse(value, "a mapping", at)
        for key, item in value.items():
            if type(key) is not str:
                _refuse(key, "text, as every key", at)
            of_value(item, f"{at}.{key}" if at else key)

    return verify


def _list(of_item: Check) -> Check:
    def verify(value: Any, at: str) -> None:
        if not isinstance(value, list | tuple):
            _refuse(value, "a list", at)
        for place, item in enumerate(value):
            of_item(item, f"{at}[{place}]")

    return verify


def _row(of_items: Sequence[Check]) -> Check:
    def verify(value: Any, at: str) -> None:
        if not isinstance(value, list | tuple) or len(value) != len(of_items):
            _refuse(value, f"a list of {len(of_items)}", at)
        for place, (test, item) in enumerate(zip(of_items, value, strict=True)):
            test(item, f"{at}[{place}]")

    return verify


def _record(cls: Any) -> Check:
    hints = get_type_hints(cls, include_extras=True)
    marked = {name: get_origin(hint) for name, hint in hints.items() if get_origin(hint) in (NotRequired, Required)}
    # what `__required_keys__` says of annotations that are text is not to be relied on
    required = [name for name in hints if marked.get(name, Required if cls.__total__ else NotRequired) is Required]
    tests = {name: _checker(get_args(hint)[0] if name in marked else hint) for name, hint in hints.items()}

    def verify(value: Any, at: str) -> None:
        if not isinstance(value, Mapping):
            _refuse(value, "a mapping", at)
        for name in required:
            if name not in value:
                raise DecodeError(f"{at or 'it'} lacks {name}")
        for name, item in value.items():
            if name in tests:
                tests[name](item, f"{at}.{name}" if at else name)
            else:
                _plain(item, f"{at}.{name}")  # of a later version

    return verify


def _plain(value: Any, at: str, depth: int = 0) -> None:
    """Any plain data, not too deep."""
    if isinstance(value, str | bool | int | float | type(None)):
        return
    if depth > MAX_DEPTH:
        raise DecodeError(f"{at[:60]} is nested too deep")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _plain(item, f"{at}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _plain(item, at, depth + 1)
    else:
        _refuse(value, "plain data", at)
