"""The search space: from what YAML and command line say to parameters with domains and conditions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.types import Glob

from orchestrator.base.build import mismatch, parameters, unknown_key
from orchestrator.base.errors import Problem, nearest
from orchestrator.base.groups import GROUPS, PARTS, SEARCHABLE_ARGUMENTS, SEARCHABLE_GROUPS, SEARCHES
from orchestrator.base.settings import ROOT_KEYS, SEARCHABLE_KEYS, Settings, settings_problems
from orchestrator.config.plan import get_key
from orchestrator.space import Choice, Condition, Domain, Interval, Parameter, Range, Space

from .composing import Composed, Overrides
from .files import Catalogue
from .grammar import SEARCH_BLOCKS, SPACE_BLOCKS, USUAL, parse, plain, to_domain, written_sweep
from .specs import Specs

DEFAULT_SEARCH = "quickstart"


@dataclass(frozen=True)
class Entry:
    """A key to search as it is written: `sweep` is Hydra's, or USUAL; `where` is None on the command line."""

    key: str
    sweep: Any
    conditions: tuple[Condition, ...] = ()
    where: str | None = None


def is_open(entry: Entry) -> bool:
    """Whether a written search asks for whatever choices there are, `glob(*)`; the command line asks for those that it names."""
    return entry.where is not None and isinstance(entry.sweep, Glob) and entry.key in GROUPS


def read_entries(
    composed: Composed, overrides: Overrides, catalogue: Catalogue, problems: list[Problem]
) -> list[Entry]:
    """All keys to search: an experiment's, then the chosen search's, then the command line's, the later winning.

    Roles have become the arguments that play them.
    """
    own = _written(composed.values, "space", problems)
    search = composed.values.get("search") or {}
    name = composed.chosen.get("search")
    ready = _written(search, f"search={name}", problems)
    unknown = [key for key in search if key not in SEARCH_BLOCKS]
    problems += [unknown_key(f"search.{key}", search[key], SEARCH_BLOCKS, "search.") for key in unknown]
    if name == DEFAULT_SEARCH and "search" not in overrides and (overrides.swept or own):
        ready = []
    entries = [e for e in own if e.key not in {r.key for r in ready}] + ready
    entries = _cast(entries, composed, overrides, catalogue)
    entries = [e for e in entries if e.key not in overrides.swept]
    entries += [Entry(key, override.value()) for key, override in overrides.swept.items()]
    known = {entry.key for entry in entries}
    for key in sorted(overrides.removed - known):
        problems.append(Problem(f"~{key}", "is not searched", None, nearest(key, known)))
    return [e for e in entries if e.key not in overrides.fixed and e.key not in overrides.removed]


def _cast(entries: Sequence[Entry], composed: Composed, overrides: Overrides, catalogue: Catalogue) -> list[Entry]:
    """The entries, of which one with the usual range of a role (`model.depth`) becomes one for each argument that plays it.

    A choice names its players in its `search:` block: with `depth: hidden` there, its argument `hidden` plays the role `depth`.
    """
    found: dict[tuple[str, tuple[Condition, ...]], Entry] = {}
    for entry in entries:
        group, dot, name = entry.key.partition(".")
        players = [name]
        if dot and group in GROUPS and entry.sweep == USUAL:
            in_play = _in_play(group, entries, composed, overrides, catalogue)
            players = sorted({catalogue.roles(group, choice).get(name, name) for choice in in_play}) or [name]
        for player in players:
            key = f"{group}.{player}" if dot else entry.key
            found.setdefault((key, entry.conditions), replace(entry, key=key))
    return list(found.values())


def _in_play(
    group: str, entries: Sequence[Entry], composed: Composed, overrides: Overrides, catalogue: Catalogue
) -> set[str]:
    """The choices of a group that trials may have."""
    names = {composed.chosen[group]} & catalogue.files[group].keys()
    if group in overrides.swept:
        return names | set(choices_of(Entry(group, overrides.swept[group].value()), catalogue, []))
    if group in overrides.fixed:
        return names
    return names.union(*(choices_of(entry, catalogue, []) for entry in entries if entry.key == group))


def _written(node: Mapping[str, Any], where: str, problems: list[Problem]) -> list[Entry]:
    """The entries of a `space:` and a `when:` block."""
    entries: list[Entry] = []
    for block in SPACE_BLOCKS:
        content = node.get(block) or {}
        if isinstance(content, Mapping):
            entries += _block(content, (), where, problems)
        else:
            problems.append(Problem(block, "must be a mapping", content, where=where))
    return entries


def _block(
    block: Mapping[str, Any], conditions: tuple[Condition, ...], where: str, problems: list[Problem]
) -> list[Entry]:
    """The entries of a mapping, whose values are sweeps or, below a condition, mappings of the same kind."""
    entries: list[Entry] = []
    for key, content in block.items():
        try:
            if isinstance(content, Mapping):
                entries += _block(content, (*conditions, _condition(key)), where, problems)
            else:
                entries.append(Entry(key, written_sweep(key, content), conditions, where))
        except ValueError as error:
            shown = None if isinstance(content, Mapping) else content
            problems.append(Problem(key, str(error), shown, where=where))
    return entries


def _condition(text: str) -> Condition:
    override = parse(text)
    value = override.value()
    values = to_domain(value) if override.is_sweep_override() else Choice((plain(value),))
    if not isinstance(values, Choice):
        raise ValueError("must be a condition: key=value[,value]")
    return Condition(override.key_or_group, values.values)


def choices_of(entry: Entry, catalogue: Catalogue, problems: list[Problem]) -> list[str]:
    """The choices of a group that an entry searches; unknown ones are added to `problems`."""
    files = catalogue.files[entry.key]
    try:
        domain = to_domain(entry.sweep, files) if entry.sweep != USUAL else None
        if not isinstance(domain, Choice):
            raise ValueError(f"a group has choices, not {domain or USUAL}")
    except ValueError as error:
        problems.append(Problem(entry.key, str(error), where=entry.where))
        return []
    problems += [replace(p, where=entry.where) for n in domain.values if (p := catalogue.unknown(entry.key, n))]
    return [name for name in domain.values if name in list(files)]


@dataclass
class Search:
    """The entries on their way to a space, with what they are checked against."""

    entries: Sequence[Entry]
    specs: Specs
    overrides: Overrides
    problems: list[Problem]
    notes: list[str]

    def space(self, base: Mapping[str, Any]) -> Space:
        """The search space; conditions on what is not searched are decided by `base`."""
        found = [p for entry in self.entries if self._conditions_known(entry) for p in self._parameters(entry)]
        found = self._without_fixed_conditions(found, base)
        for parameter in found:
            self._check_values(parameter)
        try:
            space = Space(tuple(found))
        except ValueError as error:
            self.problems.append(Problem("search", str(error)))
            return Space()
        if self.entries and not found and not self.problems:
            asked = ", ".join(dict.fromkeys(entry.key for entry in self.entries))
            groups = dict.fromkeys(group for entry in self.entries if (group := entry.key.split(".")[0]) in GROUPS)
            chosen = " ".join(f"{group}={self.specs.chosen[group]}" for group in groups)
            self.problems.append(Problem("search", f"nothing to search: of {asked} nothing applies to {chosen}"))
        return space

    # conditions

    def _conditions_known(self, entry: Entry) -> bool:
        problems: list[Problem] = []
        for condition in entry.conditions:
            group, dot, name = condition.key.partition(".")
            if not dot and group in GROUPS:
                problems += [p for v in condition.values if (p := self.specs.catalogue.unknown(group, v))]
            elif not (self.specs.any_has(group, name) if dot and group in GROUPS else condition.key in SEARCHABLE_KEYS):
                problems += self.specs.unknown(condition.key)
        self.problems += [replace(p, key=f"when.{p.key}", where=entry.where) for p in problems]
        return not problems

    def _without_fixed_conditions(self, found: list[Parameter], base: Mapping[str, Any]) -> list[Parameter]:
        """Parameters without their conditions on fixed values, which hold or not; what can never apply is left out."""
        while True:
            domains: dict[str, list[Domain]] = {}
            for parameter in found:
                domains.setdefault(parameter.key, []).append(parameter.domain)
            decided = [p for parameter in found if (p := self._decided(parameter, domains, base))]
            if decided == found:
                return found
            found = decided

    def _decided(
        self, parameter: Parameter, domains: Mapping[str, Sequence[Domain]], base: Mapping[str, Any]
    ) -> Parameter | None:
        left = []
        for condition in parameter.conditions:
            if condition.key not in domains:
                value = base["choices"][condition.key] if condition.key in GROUPS else get_key(base, condition.key)
                if not condition.holds(value):
                    return None
                continue
            if any(isinstance(d, Interval) and not d.integer for d in domains[condition.key]):
                why = "depends on single values of an interval; give it choice() or range()"
                self.problems.append(Problem(f"when.{condition}", why))
                return None
            values = tuple(v for v in condition.values if any(d.contains(v) for d in domains[condition.key]))
            if not values:
                return None
            left.append(Condition(condition.key, values))
        return replace(parameter, conditions=tuple(left))

    # parameters

    def _parameters(self, entry: Entry) -> list[Parameter]:
        """The parameters that an entry stands for: one, or with `usual` one for each range of the choices."""
        group, dot, _ = entry.key.partition(".")
        why = None
        if group in GROUPS and group not in SEARCHABLE_GROUPS and entry.key not in SEARCHABLE_ARGUMENTS:
            may = ", ".join(key for key in SEARCHABLE_ARGUMENTS if key.startswith(f"{group}."))
            why = f"a sweep has one data set and one split, or its values could not be compared; only {may} can be searched"
        elif group in PARTS or entry.key in SEARCHES:
            why = "says how the sweep runs and cannot be searched"
        elif not dot and group in ROOT_KEYS and group not in SEARCHABLE_KEYS:
            why = f"cannot be searched; of the root keys {', '.join(SEARCHABLE_KEYS)} can"
            if group == "allowed_targets":
                why = "several are written as a list: allowed_targets=[a,b]"
        if why:
            self.problems.append(Problem(entry.key, why, self.overrides.text(entry.key), where=entry.where))
            return []
        if dot and group in GROUPS:
            return self._of_choices(entry)
        if group in GROUPS:
            names = choices_of(entry, self.specs.catalogue, [])  # problems are reported where the specs are read
            self._report_aliases(entry, names)
            return [Parameter(entry.key, Choice(tuple(names)), entry.conditions)] if names else []
        if entry.key not in SEARCHABLE_KEYS:
            self.problems += self.specs.unknown(entry.key, self.overrides.text(entry.key), entry.where)
            return []
        domain = self._domain(entry)
        return [Parameter(entry.key, domain, entry.conditions)] if domain else []

    def _report_aliases(self, entry: Entry, names: Sequence[str]) -> None:
        """Two names of the same thing on the command line, which would be tried twice."""
        if entry.where is not None:
            return
        known: dict[str, str] = {}
        for name in names:
            spec = self.specs.of[entry.key].get(name)
            first = known.setdefault(json.dumps(spec, sort_keys=True), name)
            if first != name:
                why = (
                    f"is the same as {first} under another name, and a search would try it twice; leave one of them out"
                )
                self.problems.append(Problem(entry.key, why, name, where=entry.where))

    def _of_choices(self, entry: Entry) -> list[Parameter]:
        """The parameters of a key below a group: they belong to the choices that have it."""
        group, _, name = entry.key.partition(".")
        limits = [c for c in entry.conditions if c.key == group]
        in_play = [choice for choice in self.specs.of[group] if all(c.holds(choice) for c in limits)]
        having = [choice for choice in self.specs.having(group, name) if choice in in_play]
        if not having:
            if in_play and entry.sweep != USUAL:
                self._report_unknown(entry, in_play)
            return []
        if entry.sweep == USUAL:
            return [self._implied(entry, domain, choices) for domain, choices in self._usual(entry, having)]
        domain = self._domain(entry)
        return [self._implied(entry, domain, having)] if domain else []

    def _implied(self, entry: Entry, domain: Domain, choices: Sequence[str]) -> Parameter:
        """The parameter with the condition that the group has one of `choices`, unless it always has."""
        group = entry.key.partition(".")[0]
        others = tuple(c for c in entry.conditions if c.key != group)
        of_group = [e for e in self.entries if e.key == group]
        always = len(choices) == len(self.specs.of[group]) and not any(e.conditions for e in of_group)
        implied = (Condition(group, tuple(choices)),) if of_group and not always else ()
        return Parameter(entry.key, domain, (*others, *implied))

    def _report_unknown(self, entry: Entry, in_play: Sequence[str]) -> None:
        """A key that no choice in play has: an error, but for a written search only if no choice at all has it."""
        group, _, name = entry.key.partition(".")
        if entry.where is not None and self.specs.any_has(group, name):
            self.notes.append(f"{entry.key} is not searched: {group}={', '.join(in_play)} has no {name}")
        else:
            self.problems += self.specs.unknown(entry.key, self.overrides.text(entry.key), entry.where)

    def _usual(self, entry: Entry, having: Sequence[str]) -> list[tuple[Domain, list[str]]]:
        """The usual ranges of a key, with the choices that have each; a choice that gives none keeps its value."""
        group, _, name = entry.key.partition(".")
        found: list[tuple[Domain, list[str]]] = []
        for choice in having:
            text = self.specs.usual[group].get(choice, {}).get(name)
            if text is None:
                continue
            file = str(self.specs.catalogue.files[group][choice])
            try:
                domain = to_domain(written_sweep(entry.key, text))
            except ValueError as error:
                self.problems.append(Problem(entry.key, str(error), text, where=file))
                continue
            same = next((choices for known, choices in found if known == domain), None)
            if same is not None:
                same.append(choice)
            else:
                found.append((domain, [choice]))
        without = [choice for choice in having if not any(choice in choices for _, choices in found)]
        if found and without and entry.where is not None:
            self.notes.append(f"{entry.key} is not searched with {group}={', '.join(without)}: no usual range")
        if not found:
            given_none = f"{group}={', '.join(having)} gives no usual range (a search: block)"
            self.notes.append(f"{entry.key} is not searched: {given_none}")
        return found

    def _domain(self, entry: Entry) -> Domain | None:
        try:
            if entry.sweep == USUAL:
                raise ValueError("has no usual range; write a sweep")
            return to_domain(entry.sweep)
        except ValueError as error:
            self.problems.append(Problem(entry.key, str(error), self.overrides.text(entry.key), where=entry.where))
            return None

    # values

    def _check_values(self, parameter: Parameter) -> None:
        """The values of a domain against the annotation of what they are for."""
        group, dot, name = parameter.key.partition(".")
        domain = parameter.domain
        if dot:
            choices = next((c.values for c in parameter.conditions if c.key == group), tuple(self.specs.of[group]))
            known = [self.specs.arguments(group, self.specs.of[group][choice]) for choice in choices]
            annotations = [arguments[name].annotation for arguments in known if name in arguments]
        elif group in GROUPS:
            return
        else:
            annotations = [parameters(Settings)[group].annotation]
        problems = [p for annotation in annotations if (p := _misfit(parameter, annotation))]
        if not dot and not problems:
            for value in domain.ends():
                problems += settings_problems({group: value})
        self.problems += problems
        if parameter.key in self.overrides.swept and isinstance(domain, Range) and not _reaches(domain):
            self.notes.append(f"{parameter.key} takes {domain.describe()} (the step does not reach {domain.stop:g})")


def _misfit(parameter: Parameter, annotation: Any) -> Problem | None:
    """The first value at the ends of a domain that does not fit an annotation."""
    domain = parameter.domain
    for value in domain.ends():
        if why := mismatch(value, annotation):
            if isinstance(domain, Interval) and not domain.integer and not mismatch(1, annotation):
                why += f"; write int(interval({domain.low:g}, {domain.high:g}))"
            return Problem(parameter.key, why, value)
    return None


def _reaches(domain: Range) -> bool:
    """Whether the steps come out even at the excluded end."""
    return domain.at(domain.size) == domain.stop
