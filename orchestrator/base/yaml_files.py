"""Reading a YAML file that a user may have written: limits, duplicate keys, and the line on which a key stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.plain import MAX_DEPTH, why_not_plain

MAX_BYTES = 1_000_000
MAX_NODES = 100_000

_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))
"""What a value may be. YAML knows binary data, sets, dates and objects besides."""

_KEY_TAGS = frozenset(_CORE + name for name in ("str", "merge"))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number, as it is for Hydra, and dates are text."""


def _construct(kind: str, loader: _Loader, node: yaml.ScalarNode) -> Any:
    """An integer, a number or a boolean; what its tag promises and its text does not keep has a place."""
    try:
        return getattr(loader, f"construct_yaml_{kind}")(node)
    except (ValueError, KeyError, IndexError, OverflowError):
        text = " ".join(node.value.split())
        shown = text if len(text) <= 40 else f"{text[:20]}... ({len(text):,} characters)"
        raise yaml.constructor.ConstructorError(None, None, f"{shown} is no {kind}", node.start_mark) from None


for _kind in ("int", "float", "bool"):
    _Loader.add_constructor(_CORE + _kind, partial(_construct, _kind))

_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_CORE}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_CORE}float",
    re.compile(r"[-+]?(\d[\d_]*\.?|\.\d)[\d_]*[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: too large, too deep, not YAML, a key twice or no text, aliases that expand beyond measure, a value that is
            no plain data, or not a mapping at the top; with file, line and column.
    """
    node = _node(path)
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(Problem(str(path), "must hold a mapping (key: value) at the top"))
    loader = _Loader("")
    try:
        values: dict[str, Any] = loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise _unreadable(path, error) from error
    finally:
        loader.dispose()
    for key, value in values.items():
        if why := why_not_plain(value):
            raise ConfigError(Problem(key, why, where=f"{path}:{line_of(path, [key])}"))
    return values


def line_of(path: Path, keys: Sequence[str]) -> int | None:
    """The line, from 1, on which the nested key stands, or None; `a.b` may also be one dotted key."""
    try:
        node = _node(path)
    except ConfigError:
        return None
    return _line(node, list(keys))


def _line(node: yaml.Node | None, keys: list[str]) -> int | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value == ".".join(keys):
            return int(key.start_mark.line) + 1
        if keys and key.value == keys[0] and (found := _line(value, keys[1:])):
            return found
    return None


def _node(path: Path) -> yaml.Node | None:
    try:
        if not path.is_file():
            path.stat()
            raise ConfigError(Problem(str(path), "is not a file"))
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(Problem(str(path), f"is {size:,} bytes long; a configuration has at most {MAX_BYTES:,}"))
        text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=_Loader)
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(str(path), f"is not UTF-8 text (byte {error.start})")) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if node is not None:
        _check(path, node, {}, ())
    return node


def _check(path: Path, node: yaml.Node, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """How many nodes `node` expands to; each shared node is visited once."""
    if id(node) in sizes:
        return sizes[id(node)]
    if node.tag not in _TAGS:
        raise ConfigError(
            _at(path, node.start_mark, f"has the tag {node.tag.removeprefix(_CORE)}, which means nothing here")
        )
    if len(above) > MAX_DEPTH:
        raise ConfigError(_at(path, node.start_mark, f"is nested more than {MAX_DEPTH} deep"))
    if id(node) in above:
        raise ConfigError(_at(path, node.start_mark, "an alias refers to what holds it"))
    size, above = 1, (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _KEY_TAGS:
                shown = " ".join(key.value.split())[:40] if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise ConfigError(_at(path, key.start_mark, f"has the key {shown}, which is no text; quote it"))
            if key.value in seen:
                raise ConfigError(_at(path, key.start_mark, f"has the key {key.value} twice"))
            seen.add(key.value)
            size += 1 + _check(path, value, sizes, above)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check(path, item, sizes, above) for item in node.value)
    if size > MAX_NODES:
        raise ConfigError(_at(path, node.start_mark, f"expands to more than {MAX_NODES:,} values through its aliases"))
    sizes[id(node)] = size
    return size


def _unreadable(path: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
    if "\\t" in why:
        why += " (indent with spaces, not tabs)"
    return ConfigError(_at(path, mark, f"is not YAML: {why}"))


def _at(path: Path, mark: Any, why: str) -> Problem:
    where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    return Problem(f"{path}{where}", why)
