"""The YAML files of a configuration: ours, those of the user's folder, and the user's own settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from orchestrator.base import yaml_files
from orchestrator.base.errors import ConfigError, Problem, nearest, spelled_otherwise
from orchestrator.base.groups import GROUPS, PARTS, SEARCHES
from orchestrator.base.settings import CONF

from .words import choice_meant

UNREADABLE = r"holds a ${ that begins no interpolation such as ${epochs}; for these characters themselves write \${"


def open_catalogue(config_dir: str | Path | None) -> Catalogue:
    """Our own files and those of the user's folder, if there is one.

    Raises:
        ConfigError: it is no folder.
    """
    if config_dir is None:
        return Catalogue((CONF,))
    folder = Path(config_dir).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(Problem("--config-dir", "is not a folder", str(config_dir)))
    return Catalogue((CONF, folder))


@dataclass(frozen=True)
class Catalogue:
    """The choice files of every group, in our own `conf` and in the user's folder.

    Raises:
        ConfigError: a file of the user's has the name of one of ours.
    """

    folders: tuple[Path, ...]

    @cached_property
    def files(self) -> dict[str, dict[str, Path]]:
        """group -> choice -> file, but for the user's that cannot be read."""
        return {
            group: {name: path for name, path in files.items() if (group, name) not in self.broken}
            for group, files in self._all.items()
        }

    @cached_property
    def broken(self) -> dict[tuple[str, str], list[Problem]]:
        """(group, choice) of the user's files that cannot be read -> why."""
        found = {
            (group, name): damage(path)
            for group, files in self._all.items()
            for name, path in files.items()
            if path.parents[1] in self.folders[1:]
        }
        return {choice: problems for choice, problems in found.items() if problems}

    @cached_property
    def _all(self) -> dict[str, dict[str, Path]]:
        problems: list[Problem] = []
        files: dict[str, dict[str, Path]] = {}
        for group in (*GROUPS, *PARTS, *SEARCHES):
            files[group] = {}
            for folder in self.folders:
                for path in sorted((folder / group).glob("*.yaml")):
                    if path.stem in files[group]:
                        why = f"{group}={path.stem} is there already; give the file another name"
                        problems.append(Problem(str(path), why))
                    files[group][path.stem] = path
        if problems:
            raise ConfigError(problems)
        return files

    def roles(self, group: str, name: str) -> dict[str, str]:
        """The roles that arguments of a choice play under another name: role -> argument."""
        try:
            _, usual = self.choice(group, name)
        except ConfigError:
            return {}  # reported where the specs are read
        return {role: argument for role, argument in usual.items() if isinstance(argument, str) and argument in usual}

    def choice(self, group: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The spec of a choice and its usual ranges.

        Raises:
            ConfigError: its file is no choice.
        """
        path = self.files[group][name]
        spec = yaml_files.read(path)
        if "defaults" in spec or "${" in repr(spec):
            raise ConfigError(Problem(str(path), "a choice file has no defaults list and no interpolation"))
        target = spec.get("_target_", "")
        if not isinstance(target, str):
            why = "must be the dotted name of a function or class"
            raise ConfigError(Problem(f"{group}._target_", why, target, where=_place(path, "_target_")))
        spec.pop("paper", None)  # what the figures of an architecture are for
        search = spec.pop("search", None) or {}
        if not isinstance(search, Mapping):
            why = "must be a mapping: argument -> its usual range, or role -> argument"
            raise ConfigError(Problem("search", why, search, where=_place(path, "search")))
        search = dict(search)
        for role, argument in search.items():
            if not isinstance(argument, str) or (argument.isidentifier() and argument not in search):
                why = f"must be a sweep, or the argument with a range here that plays the role {role}"
                raise ConfigError(Problem(f"search.{role}", why, argument, nearest(str(argument), search), str(path)))
        return {key: value for key, value in spec.items() if value != "???"}, search

    def check(self, config_name: str, picked: Iterable[tuple[str, str]]) -> list[Problem]:
        """What keeps the user's files that are composed from being read: the root file, what was picked, and what their defaults
        lists name.

        Args:
            picked: (group, choice) of the command line.
        """
        problems: list[Problem] = []
        asked = [config_name, *(f"{group}/{name}" for group, name in picked)]
        seen: set[Path] = set()
        while asked:
            for path in set(self._named(asked.pop())) - seen:
                seen.add(path)
                if found := damage(path):
                    problems += found
                else:
                    asked += _defaults(yaml_files.read(path).get("defaults"))
        return problems

    def _named(self, name: str) -> Iterator[Path]:
        """The user's files that a defaults list may mean by `model/mine`, or by a part of it."""
        for folder in self.folders[1:]:
            with suppress(OSError, ValueError):  # no name of a file
                if (path := folder / f"{name}.yaml").exists():
                    yield path
            for group, files in self._all.items():
                inside = [path for path in files.values() if folder in path.parents]
                yield from (path for path in inside if "${" in name or f"/{group}/{path.stem}".endswith(f"/{name}"))

    def primary(self, config_name: str) -> tuple[Path, list[Path]]:
        """The folder that holds the root file, and the other ones.

        Raises:
            ConfigError: there is no such file.
        """
        found = [folder for folder in self.folders if (folder / f"{config_name}.yaml").is_file()]
        if not found:
            known = sorted(path.stem for folder in self.folders for path in folder.glob("*.yaml"))
            why = f"no such file in {' or '.join(map(str, self.folders))}; known: {', '.join(known)}"
            raise ConfigError(Problem("--config-name", why, config_name, nearest(config_name, known)))
        return found[0], [folder for folder in self.folders if folder != found[0]]

    def unknown(self, group: str, name: object) -> Problem | None:
        """The problem of a choice that is not there."""
        known = sorted(self.files[group])
        if name in known:
            return None
        if damaged := self.broken.get((group, str(name))):
            return damaged[0]
        if not isinstance(name, str) or not name:
            return Problem(group, f"must name a choice: {', '.join(known)}", "null" if name is None else repr(name))
        why, command = f"not in conf/{group}", f"orchestrator list {group}"
        hint = None if spelled_otherwise(name, known) else choice_meant(group, name)
        return Problem(group, why, name, nearest(name, known), known=tuple(known), hint=hint, listed_by=command)


def damage(path: Path) -> list[Problem]:
    """What keeps a file of the user's from being read."""
    try:
        values = yaml_files.read(path)
    except ConfigError as error:
        return list(error.problems)
    torn = [(key, at, text) for key, value in values.items() for at, text in _torn(value, key)]
    return [Problem(at, UNREADABLE, text, where=_place(path, key)) for key, at, text in torn]


def _defaults(entries: object) -> Iterator[str]:
    """The names in a defaults list: `model/mine` of `- override /model: mine`."""
    for entry in entries if isinstance(entries, list) else []:
        pairs = entry.items() if isinstance(entry, Mapping) else [("", entry)]
        for key, value in pairs:
            group = (str(key).split() or [""])[-1].partition("@")[0].strip("/")
            for name in value if isinstance(value, list) else [value]:
                name = str(name).partition("@")[0].strip("/").removesuffix(".yaml")
                yield f"{group}/{name}" if group else name


def _torn(value: object, at: str) -> Iterator[tuple[str, str]]:
    """(key, text) of the texts whose interpolations cannot be read."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _torn(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _torn(inner, f"{at}[{place}]")
    elif isinstance(value, str) and "${" in value:
        try:
            parse(value)
        except GrammarParseError:
            yield at, value


def _place(path: Path, key: str) -> str:
    return f"{path}:{yaml_files.line_of(path, [key])}"
