"""One choice of a group, key by key: type, default, usual range and its source, read from its file and its target."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any

import yaml

from orchestrator.base import yaml_files
from orchestrator.base.build import describe, parameters
from orchestrator.base.errors import ConfigError
from orchestrator.base.groups import PROVIDED
from orchestrator.base.targets import resolve

HEADER = ["key", "type", "default", "usual range", "remarks"]
NOT_KEYS = ("_target_", "search", "paper")


@dataclass(frozen=True)
class KeyOfChoice:
    """What there is to know of a key.

    Args:
        key: as it is typed: `optimizer.lr`.
        type: in words; "?" where its target is not there, or is not allowed.
        default: as YAML has it; "(needed)" where there is none.
        usual: the sweep that `usual` in a search stands for; "" where there is none.
        source: the comment at its range, or else at its value.
    """

    key: str
    type: str
    default: str
    usual: str
    source: str

    @property
    def row(self) -> list[str]:
        return [self.key, self.type, self.default, self.usual, self.source]


def keys_of_choice(group: str, path: Path) -> list[KeyOfChoice]:
    """The keys of a choice in the order of its file, then those that only its target has.

    Raises:
        ConfigError: the file is no YAML.
    """
    spec = yaml_files.read(path)
    usual = spec.get("search") or {}
    usual = usual if isinstance(usual, Mapping) else {}
    comments, of_ranges = _comments(path)
    known = _arguments(group, spec)
    names = [name for name in spec if name not in NOT_KEYS]
    names += [name for name in known if name not in spec]
    return [
        KeyOfChoice(
            key=f"{group}.{name}",
            type=describe(known[name].annotation) if name in known else "?",
            default=_default(name, spec, known.get(name)),
            usual=str(usual.get(name, "")),
            source=of_ranges.get(name) or comments.get(name, ""),
        )
        for name in names
    ]


def _arguments(group: str, spec: Mapping[str, Any]) -> Mapping[str, Parameter]:
    """What the target takes; nothing where it cannot be looked at."""
    try:
        return parameters(resolve(spec["_target_"]), PROVIDED.get(group, ())) if spec.get("_target_") else {}
    except (ConfigError, ImportError):
        return {}


def _default(name: str, spec: Mapping[str, Any], declared: Parameter | None) -> str:
    if name in spec and spec[name] != "???":
        value = spec[name]
    elif declared is not None and declared.default is not declared.empty:
        value = declared.default
    else:
        return "(needed)"
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def _comments(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The comment of each key, and of each usual range: behind its value, or in lines of its own above it."""
    text = path.read_text(encoding="utf-8-sig")
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    keys: dict[str, str] = {}
    ranges: dict[str, str] = {}
    for key, value in _pairs(node):
        keys[key.value] = _comment_at(lines, key, value)
        if key.value == "search":
            ranges = {inner.value: _comment_at(lines, inner, one) for inner, one in _pairs(value)}
    return keys, ranges


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from node.value


def _comment_at(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    line = key.start_mark.line
    if value.end_mark.line == line:
        behind = lines[line][value.end_mark.column :]
        if found := re.match(r"\s*#\s*(.*)", behind):
            return found[1].strip()
    above: list[str] = []
    while line > 0 and (found := re.match(r"( *)#\s*(.*)", lines[line - 1])):
        if len(found[1]) != key.start_mark.column or line == 1:
            break  # the first line of a file says what the choice is
        above.insert(0, found[2].strip())
        line -= 1
    return " ".join(above)
