"""The specs of all choices in play: the files' values, what experiments set beside them, the values of the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import Parameter as Argument
from typing import Any

from orchestrator.base import yaml_files
from orchestrator.base.build import check, parameters, unknown_key
from orchestrator.base.errors import ConfigError, Problem, nearest, spelled_otherwise
from orchestrator.base.groups import GROUPS, OF_MODEL, PROVIDED
from orchestrator.base.settings import ROOT_KEYS
from orchestrator.base.targets import resolve

from .composing import Composed, Overrides
from .files import Catalogue
from .grammar import as_annotated, typed
from .words import key_meant

OTHERS_SHOWN = 4
"""So many of the choices that have a key are named."""


@dataclass
class Specs:
    """Of each group the choices in play, with their specs and usual ranges; problems are added to `problems`.

    Args:
        recorded: group -> (choice, spec) of a trial that is trained again in another way; in the place of today's files.
        chosen: group -> the choice of a trial before any searched value.
    """

    catalogue: Catalogue
    composed: Composed
    problems: list[Problem]
    recorded: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    of: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    usual: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def read(self, group: str, searched: Sequence[str], *, always: bool) -> None:
        """Read the choices of a group.

        Args:
            searched: the choices that the search holds; nothing where the group is not searched.
            always: whether the search always decides; otherwise the composed choice is in play too.
        """
        if group in self.recorded:
            name, spec = self.recorded[group]
            self.chosen[group], self.of[group], self.usual[group] = name, {name: dict(spec)}, {}
            return
        composed = self.composed.chosen.get(group)
        names = list(searched)
        if composed and composed not in names and not (searched and always):
            names.append(composed)
        beside = self._beside(group)
        self.of[group], self.usual[group] = {}, {}
        for name in names:
            try:
                spec, self.usual[group][name] = self.catalogue.choice(group, name)
            except ConfigError as error:
                self.problems += error.problems
                continue
            known = self.arguments(group, spec)
            self.of[group][name] = spec | {k: v for k, v in beside.items() if name == composed or k in known}
        if not names:
            self.problems.append(Problem(group, f"must name a choice: {', '.join(self.catalogue.files[group])}"))
        self.chosen[group] = composed if composed in self.of[group] else next(iter(self.of[group]), str(composed))
        self.of[group].setdefault(self.chosen[group], {})

    def _beside(self, group: str) -> dict[str, Any]:
        """What an experiment or the root file sets in a group, beyond the choice's own file."""
        node, name = self.composed.values.get(group) or {}, self.composed.chosen.get(group)
        if not isinstance(node, Mapping) or name not in self.catalogue.files[group]:
            return {}
        own = yaml_files.read(self.catalogue.files[group][name])
        return {
            k: v
            for k, v in node.items()
            if k not in ("search", "paper") and v != "???" and (k not in own or own[k] != v)
        }

    def arguments(self, group: str, spec: Mapping[str, Any]) -> dict[str, Argument]:
        """What can be set of a choice; nothing where its target cannot be found, which `check` reports."""
        try:
            return parameters(resolve(spec["_target_"]), PROVIDED.get(group, ())) if spec else {}
        except (ConfigError, KeyError):
            return {}

    @staticmethod
    def _is_found(spec: Mapping[str, Any]) -> bool:
        """Whether the target of a spec is allowed and there, so that its arguments are known."""
        try:
            resolve(spec.get("_target_")) if spec else None
        except ConfigError:
            return False
        return True

    def having(self, group: str, name: str) -> list[str]:
        """The choices in play that have an argument."""
        return [choice for choice, spec in self.of.get(group, {}).items() if name in self.arguments(group, spec)]

    def any_has(self, group: str, name: str) -> bool:
        """Whether any choice of the catalogue, in play or not, has an argument."""
        if self.having(group, name):
            return True
        return any(self._has(group, choice, name) for choice in self.catalogue.files[group])

    def set_fixed(self, overrides: Overrides, notes: list[str]) -> None:
        """Set the values for which the chosen search is meant, unless an experiment or the command line says otherwise."""
        search = self.composed.chosen.get("search")
        fixed = (self.composed.values.get("search") or {}).get("fixed") or {}
        if not isinstance(fixed, Mapping):
            self.problems.append(Problem("search.fixed", "must be a mapping", fixed, where=f"search={search}"))
            return
        for key, value in fixed.items():
            group, _, name = key.partition(".")
            if not self.any_has(group, name) if group in GROUPS and name else True:
                self.problems += self.unknown(key, str(value), f"search={search}")
                continue
            if key in overrides or name in self._beside(group):
                continue
            having = self.having(group, name)
            for choice in having:
                self.of[group][choice][name] = value
            if not having:
                chosen = ", ".join(self.of[group])
                notes.append(f"search={search} is meant for {key}={value}, which {group}={chosen} does not have")

    def set_values(self, overrides: Overrides) -> None:
        """Set the fixed values of the command line, each in the choices that have its key."""
        for key, override in overrides.fixed.items():
            if key in ROOT_KEYS or key in self.catalogue.files:
                continue
            group, _, name = key.partition(".")
            having = self.having(group, name)
            for choice in having:
                spec = self.of[group][choice]
                annotated = as_annotated(override, self.arguments(group, spec)[name].annotation)
                spec[name] = self.composed.late.get(key, annotated)
            if not having:
                self.problems += self.unknown(key, typed(override))

    def unknown(self, key: str, value: str | None = None, where: str | None = None) -> list[Problem]:
        """The problem of a key that nothing has, with what there is; none where a choice of its group cannot be looked into."""
        value = "''" if value == "" else value
        group, _, name = key.partition(".")
        if name and any(not self._is_found(spec) for spec in self.of.get(group, {}).values()):
            return []  # it may well have the key; that it is not allowed, or not there, is told by `check`
        if name and group in self.of:
            names = {n for spec in self.of[group].values() for n in self.arguments(group, spec)}
            problem = unknown_key(key, value, names, f"{group}.")
            has_none = f"{group}={', '.join(self.of[group])} has no {name}"
            why = problem.why.replace("unknown key", has_none)
            if others := self._others_having(group, name):
                why = f"{has_none}; {group}={others}"
            hint = key_meant(key)
            return [replace(problem, why=why, value=value, where=where, hint=hint)]
        roots = [*ROOT_KEYS, *self.catalogue.files]
        inner = [f"{g}.{n}" for g in self.of for spec in self.of[g].values() for n in self.arguments(g, spec)]
        by_last = {full.partition(".")[2]: full for full in sorted(inner, key=lambda k: k.startswith("optimizer."))}
        last = nearest(key.rpartition(".")[2], by_last)
        near = (nearest(key, inner) if name else None) or nearest(key, roots) or nearest(key, inner)
        near = near or (by_last[last] if last else None)
        known = (*roots, "the keys of each group (model.width)")
        hint = None if spelled_otherwise(key, roots) else key_meant(key)
        return [Problem(key, "unknown key", value, near, where, known, hint, "orchestrator launch --help")]

    def _others_having(self, group: str, name: str) -> str:
        """`patience has it`: the choices of the catalogue that have an argument which those in play lack."""
        found = [c for c in self.catalogue.files[group] if c not in self.of[group] and self._has(group, c, name)]
        rest = f" and {len(found) - OTHERS_SHOWN} more" if len(found) > OTHERS_SHOWN else ""
        return f"{', '.join(found[:OTHERS_SHOWN])}{rest} {'has' if len(found) == 1 else 'have'} it" if found else ""

    def _has(self, group: str, choice: str, name: str) -> bool:
        try:
            spec, _ = self.catalogue.choice(group, choice)
        except ConfigError:
            return False  # told where it is chosen
        return name in self.arguments(group, spec)

    def check(self) -> None:
        """Check every spec against its target's signature, whose defaults are written down."""
        for group, specs in self.of.items():
            for spec in specs.values():
                self.problems += self._is_the_loss_itself(group, spec) or check(
                    group, spec, provided=PROVIDED.get(group, ())
                )
                for name, declared in self.arguments(group, spec).items():
                    default = declared.default
                    if name not in spec and _is_json(default):
                        spec[name] = list(default) if isinstance(default, tuple) else default
        for group in OF_MODEL:
            self._check_taken(group)

    def _is_the_loss_itself(self, group: str, spec: Mapping[str, Any]) -> list[Problem]:
        """Where the target of a loss is not what makes it: two arguments or more of it have no value, as outputs and labels."""
        arguments = self.arguments(group, spec)
        lacking = [name for name, one in arguments.items() if one.default is one.empty and name not in spec]
        if group != "loss" or len(lacking) < 2:
            return []
        why = f"takes {', '.join(lacking)}, so it is the loss itself; name a function that takes its settings and returns it"
        return [Problem(f"{group}._target_", why, spec["_target_"])]

    def _check_taken(self, group: str) -> None:
        """A norm or activation, say, chosen for a model that takes none would be searched in vain."""
        given = ", ".join(name for name, spec in self.of[group].items() if spec)
        for name, spec in self.of["model"].items():
            try:
                takes = parameters(resolve(spec["_target_"]))
            except (ConfigError, KeyError):
                continue
            if given and group not in takes:
                self.problems.append(Problem(group, f"model={name} takes no {group}", given))


def _is_json(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
