"""From overrides and YAML to a checked SweepPlan. The only importer of hydra and omegaconf.

Hydra composes the defaults list and parses the override grammar. Values are set here, because a key below a searched group
belongs to the choices that have it, and because the schema of a choice is the signature of its target.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import Parameter as Argument
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrator import yaml_files
from orchestrator.build import PROVIDED, build, check, mismatch, parameters, resolve, unknown_key, use_import_paths
from orchestrator.errors import ConfigError, NotReadyError, Problem, nearest
from orchestrator.plan import SweepPlan, get_key, trial_config
from orchestrator.records import GROUPS, METRICS
from orchestrator.settings import PARTS, SEARCHABLE, TRIAL_KEYS, Settings, settings_problems
from orchestrator.space import Choice, Condition, Domain, Interval, Parameter, Range, Space

CONF = Path(__file__).resolve().parent.parent / "conf"
ROOT_KEYS = tuple(Settings.__dataclass_fields__)
DEFAULT_SEARCH = "quickstart"
USUAL = "usual"  # in a search space: the range in the choice's own `search:` block
ENVIRONMENT = ("HOME", "USER", "TMPDIR", "SCRATCH", "SLURM_*", "ORCHESTRATOR_*")  # what ${oc.env:...} may read
MAX_PROBES = 64  # configurations that are tried on the driver
_BASE = "every trial"  # the label of the configuration before any searched value
_SWEEPS = "choice(a, b), range(start, stop, step), interval(low, high), tag(log, interval(low, high))"
_SPEC = {"_target_": "orchestrator.settings.Settings"}  # the root keys have a schema as the groups have


def plan(overrides: Sequence[str], *, config_dir: str | Path | None = None, config_name: str = "launch") -> SweepPlan:
    """What a sweep with these overrides would do, checked down to one build of every choice; creates nothing.

    Raises:
        ConfigError: all problems found.
        NotReadyError: data are not there, or runs_dir cannot be written.
    """
    draft = _Draft(config_dir, config_name)
    made = draft.plan(overrides)
    probes = list(_probes(made))
    if draft.buildable:
        made = _tried(draft, made, probes)
    draft.raise_problems()
    check_writable(Path(made.settings["runs_dir"]))
    return made


def compose_job(overrides: Sequence[str], *, config_dir: str | Path | None = None, config_name: str = "launch") -> str:
    """The composed configuration and search space as YAML; nothing is tried or read."""
    draft = _Draft(config_dir, config_name)
    made = draft.plan(overrides)
    draft.raise_problems()
    job = {
        **made.settings,
        **{group: dict(made.base[group]) for group in GROUPS},
        **{part: dict(getattr(made, part)) for part in PARTS},
        "choices": dict(made.base["choices"]),
        "space": [
            {"key": p.key, "domain": str(p.domain)} | ({"when": p.condition} if p.conditions else {})
            for p in made.space.parameters
        ],
    }
    return yaml.safe_dump(job, sort_keys=False, allow_unicode=True)


def check_writable(folder: Path) -> None:
    """Raise NotReadyError unless files can be created, synced, renamed and deleted in `folder`, or where it would be made.

    Leaves nothing behind.
    """
    place = folder
    while not place.exists() and not place.is_symlink():
        place = place.parent
    if not place.is_dir():
        raise NotReadyError(f"runs_dir={folder}: {place} is a file, not a folder; name another with runs_dir=...")
    probe = place / f".orchestrator-{uuid.uuid4().hex}"
    renamed = probe.with_suffix(".renamed")
    try:
        with probe.open("wb") as file:
            file.write(b"probe")
            file.flush()
            os.fsync(file.fileno())
        probe.rename(renamed)
    except OSError as error:
        raise NotReadyError(
            f"runs_dir={folder}: {place} cannot be written ({error.strerror}); name another folder with runs_dir=..."
        ) from error
    finally:
        for path in (probe, renamed):
            path.unlink(missing_ok=True)


# the override grammar ------------------------------------------------------------------------------------------------

_PARSER = OverridesParser.create()


def parse(text: str) -> Override:
    """One override.

    Raises:
        ValueError: with the reason in one line.
    """
    key, _, value = text.partition("=")
    if not value.isascii() and not re.search(r"""['"\\(){}\[\],]""", value):
        text = f"{key}='{value}'"  # the grammar knows other letters only in quotes
    try:
        return _PARSER.parse_override(text)
    except HydraException as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(f"cannot be read: {reason}") from error


def to_domain(sweep: object, names: Iterable[str] | None = None) -> Domain:
    """The domain that a sweep of Hydra's grammar describes; `names` are what glob() chooses from.

    Raises:
        ValueError: the domain makes no sense, or the grammar's shuffle, sort or an unknown tag is used.
    """
    if isinstance(sweep, Glob):
        if names is None:
            raise ValueError("glob() chooses among the files of a group; a value has choice(), range() or interval()")
        found = sweep.filter(list(names))
        if not found:
            raise ValueError(f"matches none of {', '.join(sorted(names))}")
        return Choice(tuple(sorted(found)))
    if getattr(sweep, "shuffle", False):
        raise ValueError("shuffle() has no meaning here: the sampler decides the order")
    tags: set[str] = getattr(sweep, "tags", set())
    if tags - {"log"} or (tags and not isinstance(sweep, IntervalSweep)):
        raise ValueError(f"tag({', '.join(sorted(tags))}, ...): the only tag is log, on an interval()")
    if isinstance(sweep, IntervalSweep):
        low, high = cast("float", sweep.start), cast("float", sweep.end)
        return Interval(low, high, log="log" in tags, integer=isinstance(low, int) and isinstance(high, int))
    if isinstance(sweep, RangeSweep):
        return Range(*(cast("float", number) for number in (sweep.start, sweep.stop, sweep.step)))
    assert isinstance(sweep, ChoiceSweep)
    return Choice(tuple(value for item in sweep.list for value in _choice_values(item)))


def _choice_values(item: object) -> Sequence[Any]:
    if isinstance(item, RangeSweep):
        return to_domain(item).grid()
    return [_plain(item)]


def _typed(override: Override) -> str:
    """The value as it was typed."""
    return (override.input_line or "").partition("=")[2]


def _as_annotated(override: Override, annotation: Any) -> Any:
    """The fixed value of an override; what looks like a number stays text where only text is wanted (`name=2026`)."""
    value = _plain(override.value())
    if isinstance(value, str) or not mismatch(value, annotation) or mismatch(_typed(override), annotation):
        return value
    return _typed(override)


def _plain(value: Any) -> Any:
    """A parsed value without Hydra's own types."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return value


# the catalogue -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Catalogue:
    """The choice files of every group, in our own `conf` and in the user's folder.

    Raises:
        ConfigError: a file of the user's that is no YAML, or has the name of one of ours.
    """

    folders: tuple[Path, ...]

    @cached_property
    def files(self) -> dict[str, dict[str, Path]]:
        """group -> choice -> file."""
        problems: list[Problem] = []
        files: dict[str, dict[str, Path]] = {}
        for group in (*GROUPS, *PARTS, "search", "experiment"):
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

    def choice(self, group: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The spec of a choice and its usual ranges."""
        path = self.files[group][name]
        spec = yaml_files.read(path)
        if "defaults" in spec or any(isinstance(v, str) and "${" in v for v in spec.values()):
            raise ConfigError(Problem(str(path), "a choice file has no defaults list and no interpolation"))
        search = spec.pop("search", None) or {}
        return {key: value for key, value in spec.items() if value != "???"}, search

    def unknown(self, group: str, name: object) -> Problem | None:
        """The problem of a choice that is not there."""
        known = sorted(self.files[group])
        if name in known:
            return None
        if not isinstance(name, str) or not name:
            return Problem(group, f"must name a choice: {', '.join(known)}", "null" if name is None else repr(name))
        return Problem(group, f"not in conf/{group}; known: {', '.join(known)}", name, nearest(name, known))


# the flow ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A key of the search space before it is resolved: `sweep` is Hydra's, or USUAL."""

    key: str
    sweep: Any
    conditions: tuple[Condition, ...] = ()
    where: str | None = None


@dataclass
class _Draft:
    """A sweep on its way to a plan, with the problems found so far."""

    config_dir: str | Path | None
    config_name: str
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    given: dict[str, Override] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    composed: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)  # group -> the choice that was composed
    settings: dict[str, Any] = field(default_factory=dict)
    specs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # group -> choices in play -> spec
    usual: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # the same -> usual ranges
    buildable: bool = True  # whether the trials' specs are sound enough to be tried

    def __post_init__(self) -> None:
        folders = [CONF]
        if self.config_dir is not None:
            folder = Path(self.config_dir).expanduser().resolve()
            if not folder.is_dir():
                raise ConfigError(Problem("--config-dir", "is not a folder", str(self.config_dir)))
            folders.append(folder)
        self.catalogue = Catalogue(tuple(folders))
        self.user_settings = read_user_settings()

    def raise_problems(self) -> None:
        if self.problems:
            different = {str(problem): problem for problem in self.problems}.values()
            raise ConfigError([self._located(problem) for problem in different])

    def plan(self, overrides: Sequence[str]) -> SweepPlan:
        """The plan, as far as it can be made; raises ConfigError only where nothing further can be checked."""
        self.read_overrides(overrides)
        entries = self.compose()
        self.read_settings()
        self.read_specs(entries)
        self.set_values()
        self.check_specs()
        base = self.base()
        space = self.space(entries, base)
        parts = {part: self.specs[part][self.chosen[part]] for part in PARTS}
        trials = self.check_parts(parts, space)
        return SweepPlan(
            settings={**self.settings, "trials": trials},
            base=base,
            choices={g: self.specs[g] for g in GROUPS if g in space.keys},
            space=space,
            facts={"fits": self.fits()},
            notes=tuple(self.notes),
            **parts,
        )

    # 1. the command line

    def read_overrides(self, texts: Sequence[str]) -> None:
        for text in texts:
            try:
                override = parse(text)
                key = self._key(override, text)
            except ValueError as error:
                self.problems.append(Problem(text or "''", str(error)))
                continue
            if override.type is OverrideType.DEL:
                self.removed.add(key)
            elif key in self.given:
                self.problems.append(Problem(key, "is given twice", text.partition("=")[2]))
            else:
                self.given[key] = override
        known = set(self.catalogue.files)
        for group in known & set(self.given):
            if not self.given[group].is_sweep_override():
                name = _plain(self.given[group].value())
                if problem := self.catalogue.unknown(group, name):
                    self.problems.append(problem)
                    del self.given[group]

    def _key(self, override: Override, text: str) -> str:
        """The override's key, or ValueError for what is Hydra's and has no meaning here."""
        key = override.key_or_group
        if key == "hydra" or key.startswith(("hydra.", "hydra/")):
            raise ValueError("Hydra's own settings do not apply; runs_dir says where everything goes")
        if override.package is not None or "/" in key:
            raise ValueError("groups stand side by side: no packages (@), no paths (/)")
        value = text.partition("=")[2]
        if override.is_sweep_override() and re.search(r"\b(shuffle|sort)\s*\(", value):
            raise ValueError("shuffle() and sort() have no meaning here: the sampler decides the order")
        if override.type is OverrideType.DEL and key in self.catalogue.files:
            raise ValueError(f"a group always has a choice: {key}={', '.join(self.catalogue.files[key])}")
        if key.split(".")[0] in ("search", "space", "when", "experiment") and key not in self.catalogue.files:
            raise ValueError("a search space is given by its keys: optimizer.lr='tag(log,interval(1e-4,1))'")
        return key

    # 2. Hydra's part: the defaults list

    def compose(self) -> list[_Entry]:
        """Compose, and read the entries of the search space."""
        overrides = [f"{key}={key_value}" for key, key_value in self._picks()]
        config = self._composed(overrides)
        for key in ROOT_KEYS:
            if key in self.given and not self.given[key].is_sweep_override():
                value = _as_annotated(self.given[key], parameters(Settings)[key].annotation)
                OmegaConf.update(config, key, value, force_add=True)
        self._interpolate(config)
        entries = self._entries()
        pinned = {key for key, o in self.given.items() if not o.is_sweep_override()}
        known = {entry.key for entry in entries}
        for key in sorted(self.removed - known):
            self.problems.append(Problem(f"~{key}", "is not searched", None, nearest(key, known)))
        return [entry for entry in entries if entry.key not in pinned | self.removed]

    def _picks(self) -> Iterator[tuple[str, str]]:
        """The groups chosen on the command line; of a searched one the first choice, as all are swapped in later."""
        for group, files in self.catalogue.files.items():
            if group not in self.given:
                continue
            override = self.given[group]
            if not override.is_sweep_override():
                yield group, _plain(override.value())
            elif group in GROUPS and (domain := self._domain(group, override.value(), files)):
                first = domain.values[0] if isinstance(domain, Choice) else None
                if first in files:
                    yield group, first

    def _composed(self, overrides: list[str]) -> DictConfig:
        primary, *others = self._primary_first()
        if others:
            overrides = [f'hydra.searchpath=["file://{others[0]}"]', *overrides]
        for folder in self.catalogue.folders[1:]:
            for path in folder.glob(f"{self.config_name}.yaml"):
                yaml_files.read(path)
        for group, files in self.catalogue.files.items():
            for path in files.values():
                if CONF not in path.parents:
                    self._readable(group, path)
        self.raise_problems_of_files()
        try:
            with initialize_config_dir(config_dir=str(primary), version_base="1.3"):
                config = compose(self.config_name, overrides, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError([*self.problems, Problem(self.config_name, _first_line(error))]) from error
        self.chosen = {g: c for g, c in config.hydra.runtime.choices.items() if g in self.catalogue.files}
        OmegaConf.set_struct(config, False)
        config.pop("hydra")
        return config

    def _primary_first(self) -> list[Path]:
        """The folder that holds the primary config, then the other one."""
        folders = list(self.catalogue.folders)
        holders = [folder for folder in folders if (folder / f"{self.config_name}.yaml").is_file()]
        if not holders:
            known = sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))
            near = nearest(self.config_name, known)
            why = f"no such file in {' or '.join(map(str, folders))}; known: {', '.join(known)}"
            raise ConfigError([*self.problems, Problem("--config-name", why, self.config_name, near)])
        folders.remove(holders[0])
        return [holders[0], *folders]

    def _readable(self, group: str, path: Path) -> None:
        try:
            yaml_files.read(path)
        except ConfigError as error:
            self.problems += error.problems

    def raise_problems_of_files(self) -> None:
        """Files that cannot be read stop everything: what is in them is unknown."""
        if any(problem.key.startswith("/") for problem in self.problems):
            self.raise_problems()

    def _interpolate(self, config: DictConfig) -> None:
        """Resolve `${...}`, also in values of the command line; the environment only as far as it is allowed."""
        late = {
            k: _plain(o.value()) for k, o in self.given.items() if not o.is_sweep_override() and "${" in str(o.value())
        }
        for key, value in late.items():
            config[f"given {key}"] = value
        original = OmegaConf.has_resolver("oc.env")
        assert original
        from omegaconf.resolvers import oc

        OmegaConf.register_new_resolver("oc.env", _environment, replace=True)
        try:
            plain = OmegaConf.to_container(config, resolve=True)
        except (OmegaConfBaseException, RecursionError) as error:
            key = getattr(error, "full_key", None) or "interpolation"
            why = _first_line(error).removeprefix("ValueError raised while resolving interpolation: ")
            if "ecursi" in why:
                why = f"interpolations go round in a circle: {_circle(OmegaConf.to_container(config))}"
            raise ConfigError([*self.problems, Problem(str(key).removeprefix("given "), why)]) from error
        finally:
            OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
        assert isinstance(plain, dict)
        self.composed = {str(key): value for key, value in plain.items()}
        self.late = {key: self.composed.pop(f"given {key}") for key in late}

    # 3. the search space as written

    def _entries(self) -> list[_Entry]:
        """All keys to search: an experiment's, then the chosen search's, then the command line's, the later winning."""
        swept = {key: o for key, o in self.given.items() if o.is_sweep_override()}
        own = self._written(self.composed, self.config_name)
        search = self.composed.get("search") or {}
        ready = self._written(search, f"search={self.chosen.get('search')}")
        for key in set(search) - {"space", "when"}:
            self.problems.append(unknown_key(f"search.{key}", search[key], ("space", "when"), "search."))
        default = self.chosen.get("search") == DEFAULT_SEARCH and "search" not in self.given
        if default and (swept or own):
            ready = []
        entries = [e for e in own if e.key not in {r.key for r in ready}] + ready
        typed = [_Entry(key, override.value()) for key, override in swept.items()]
        return [e for e in entries if e.key not in swept] + typed

    def _written(self, node: Mapping[str, Any], where: str) -> list[_Entry]:
        """The entries of a `space:` and a `when:` block."""
        entries = self._block(node.get("space") or {}, (), where)
        for text, block in (node.get("when") or {}).items():
            entries += self._conditional(text, block, (), where)
        return entries

    def _conditional(self, text: str, block: object, outer: tuple[Condition, ...], where: str) -> list[_Entry]:
        try:
            override = parse(text)
            value = override.value()
            values = to_domain(value) if override.is_sweep_override() else Choice((_plain(value),))
            if not isinstance(values, Choice) or not isinstance(block, Mapping):
                raise ValueError("must be key=value[,value] over a mapping of keys to search")
        except ValueError as error:
            self.problems.append(Problem(f"when.{text}", str(error), where=where))
            return []
        return self._block(block, (*outer, Condition(override.key_or_group, values.values)), where)

    def _block(self, block: Mapping[str, Any], conditions: tuple[Condition, ...], where: str) -> list[_Entry]:
        entries = []
        for key, text in block.items():
            if isinstance(text, Mapping):
                entries += self._conditional(key, text, conditions, where)
                continue
            try:
                sweep = _sweep(key, text)
            except ValueError as error:
                self.problems.append(Problem(key, str(error), text, where=where))
                continue
            entries.append(_Entry(key, sweep, conditions, where))
        return entries

    # 4. settings and specs

    def read_settings(self) -> None:
        self.settings = {key: self.composed[key] for key in ROOT_KEYS if key in self.composed}
        for key in ROOT_KEYS:
            override = self.given.get(key)
            if override is not None and override.is_sweep_override() and key not in SEARCHABLE:
                why = f"cannot be searched; of the root keys {', '.join(SEARCHABLE)} can"
                if key == "allowed_targets":
                    why = "several are written as a list: allowed_targets=[a,b]"
                self.problems.append(Problem(key, why, _typed(override)))
        self._read_allowed()
        known = {*ROOT_KEYS, *self.catalogue.files}
        if self.composed.get("experiment"):
            path = self.catalogue.files["experiment"][self.chosen["experiment"]]
            why = "must begin with the line '# @package _global_', or what it sets goes nowhere"
            self.problems.append(Problem(str(path), why))
        for key in set(self.composed) - known - {"space", "when"}:
            self.problems.append(unknown_key(key, self.composed[key], known))
        found = check("", _SPEC | self.settings)
        self.problems += [*found, *settings_problems(self.settings, wrong={problem.key for problem in found})]
        if not found:
            self.settings["mode"] = self.settings["mode"] or METRICS.get(self.settings["metric"])
            self.settings["runs_dir"] = str(Path(self.settings["runs_dir"]).expanduser().absolute())
        self.sound = not found

    def _read_allowed(self) -> None:
        """`allowed_targets` from the command line and the user's settings; a YAML must not allow what it needs."""
        written = self.composed.get("allowed_targets")
        override = self.given.get("allowed_targets")
        typed: list[str] = []
        if override is not None and not override.is_sweep_override():
            typed = [written] if isinstance(written, str) else written  # type: ignore[assignment]
        elif override is None and written:
            why = "must come from the command line or your own settings file, not from the YAML that needs it"
            self.problems.append(Problem("allowed_targets", why, written))
        allowed = [*self.user_settings, *typed] if isinstance(typed, list) else typed
        self.settings["allowed_targets"] = allowed
        self.allowed = [a for a in allowed if isinstance(a, str)] if isinstance(allowed, list) else []
        folders = [str(folder) for folder in self.catalogue.folders[1:]]
        self.import_paths = [*folders, str(Path.cwd())] if folders or self.allowed else []
        use_import_paths(self.import_paths)

    def read_specs(self, entries: Sequence[_Entry]) -> None:
        """The specs of all choices in play, as the files and experiments have them."""
        for group in (*GROUPS, *PARTS):
            names = [self.chosen[group]] if self.chosen.get(group) else []
            for entry in entries:
                if entry.key == group and group in GROUPS:
                    names = (
                        [n for n in self._names(entry) if n not in names] + names
                        if entry.conditions
                        else self._names(entry)
                    )
            self.specs[group], self.usual[group] = {}, {}
            written = self._written_beside(group)
            for name in names:
                try:
                    spec, usual = self.catalogue.choice(group, name)
                except ConfigError as error:
                    self.problems += error.problems
                    continue
                chosen = name == self.chosen.get(group)
                fits = written if chosen else {k: v for k, v in written.items() if k in self.arguments(group, spec)}
                self.specs[group][name] = {**spec, **fits}
                self.usual[group][name] = usual
            if self.specs[group] and self.chosen.get(group) not in self.specs[group]:
                self.chosen[group] = next(iter(self.specs[group]))
            if not self.specs[group]:
                if self.chosen.get(group) is None:
                    self.problems.append(
                        Problem(group, f"must name a choice: {', '.join(self.catalogue.files[group])}")
                    )
                self.specs[group] = {str(self.chosen.get(group)): {}}
                self.chosen[group] = str(self.chosen.get(group))

    def _names(self, entry: _Entry) -> list[str]:
        """The choices of a group that an entry searches; unknown ones become problems."""
        files = self.catalogue.files[entry.key]
        domain = self._domain(entry.key, entry.sweep, files, entry.where)
        if not isinstance(domain, Choice):
            if domain is not None:
                self.problems.append(Problem(entry.key, f"a group has choices, not {domain}", where=entry.where))
            return []
        unknown = [p for name in domain.values if (p := self.catalogue.unknown(entry.key, name))]
        self.problems += [replace(p, where=entry.where) for p in unknown]
        return [name for name in domain.values if name in files]

    def _written_beside(self, group: str) -> dict[str, Any]:
        """What an experiment or the primary config sets in a group, beyond the choice's own file."""
        node, name = self.composed.get(group) or {}, self.chosen.get(group)
        if not isinstance(node, Mapping) or name not in self.catalogue.files[group]:
            return {}
        try:
            own = yaml_files.read(self.catalogue.files[group][name])
        except ConfigError:
            return {}
        return {k: v for k, v in node.items() if k != "search" and v != "???" and (k not in own or own[k] != v)}

    def arguments(self, group: str, spec: Mapping[str, Any]) -> dict[str, Argument]:
        """What can be set of a choice; nothing where its target cannot be found, which is a problem of its own."""
        try:
            return parameters(resolve(spec["_target_"], self.allowed), PROVIDED.get(group, ())) if spec else {}
        except (ConfigError, KeyError):
            return {}

    def set_values(self) -> None:
        """The fixed values of the command line, each in the choices that have its key."""
        for key, override in self.given.items():
            group, dot, name = key.partition(".")
            if key in ROOT_KEYS or key in self.catalogue.files or override.is_sweep_override():
                if not dot and key not in ROOT_KEYS and key not in self.catalogue.files:
                    self.problems.append(self._unknown(key, _typed(override)))
                continue
            arguments = {choice: self.arguments(group, spec) for choice, spec in self.specs.get(group, {}).items()}
            having = [choice for choice, known in arguments.items() if name in known]
            for choice in having:
                annotated = _as_annotated(override, arguments[choice][name].annotation)
                self.specs[group][choice][name] = self.late.get(key, annotated)
            if not having:
                self.problems.append(self._unknown(key, _typed(override)))

    def _unknown(self, key: str, value: str | None = None, where: str | None = None) -> Problem:
        """The problem of a key that nothing has, with what there is."""
        value = "''" if value == "" else value
        group, _, name = key.partition(".")
        if name and group in self.specs:
            names = {n for spec in self.specs[group].values() for n in self.arguments(group, spec)}
            problem = unknown_key(key, value, names, f"{group}.")
            has_none = f"{group}={', '.join(self.specs[group])} has no {name}"
            return replace(problem, why=problem.why.replace("unknown key", has_none), value=value, where=where)
        roots = [*ROOT_KEYS, *self.catalogue.files]
        inner = [f"{g}.{n}" for g in self.specs for spec in self.specs[g].values() for n in self.arguments(g, spec)]
        by_last = {full.partition(".")[2]: full for full in sorted(inner, key=lambda k: k.startswith("optimizer."))}
        last = nearest(key.rpartition(".")[2], by_last)
        near = nearest(key, roots) or nearest(key, inner) or (by_last[last] if last else None)
        why = f"unknown key; known: {', '.join(roots)}, and the keys of each group (model.width)"
        return Problem(key, why, value, near, where)

    def check_specs(self) -> None:
        """Every spec against the signature of its target; defaults of the signature are written down."""
        for group, specs in self.specs.items():
            for spec in specs.values():
                problems = check(group, spec, provided=PROVIDED.get(group, ()), allowed=self.allowed)
                self.problems += problems
                self.buildable = self.buildable and not (problems and group in GROUPS)
                for argument, declared in self.arguments(group, spec).items():
                    default = declared.default
                    if argument not in spec and _is_json(default):
                        spec[argument] = list(default) if isinstance(default, tuple) else default
        for group in ("norm", "activation"):
            if not any(self.specs[group].values()):
                continue
            for name, spec in self.specs["model"].items():
                if spec and self._takes(spec) is not None and group not in (self._takes(spec) or ()):
                    choices = ", ".join(n for n, s in self.specs[group].items() if s)
                    self.problems.append(Problem(group, f"model={name} takes no {group}", choices))

    def _takes(self, spec: Mapping[str, Any]) -> set[str] | None:
        try:
            return set(parameters(resolve(spec["_target_"], self.allowed)))
        except (ConfigError, KeyError):
            return None

    def base(self) -> dict[str, Any]:
        """A trial's configuration before any searched value."""
        return {
            "choices": {group: self.chosen[group] for group in GROUPS},
            **{group: self.specs[group][self.chosen[group]] for group in GROUPS},
            **{key: self.settings.get(key) for key in TRIAL_KEYS},
            "import_paths": self.import_paths,
        }

    # 5. the search space, resolved

    def _domain(
        self, key: str, sweep: object, names: Iterable[str] | None = None, where: str | None = None
    ) -> Domain | None:
        try:
            return to_domain(sweep, names)
        except ValueError as error:
            text = _typed(self.given[key]) if key in self.given else None
            problem = Problem(key, str(error), text, where=where)
            if problem not in self.problems:
                self.problems.append(problem)
            return None

    def space(self, entries: Sequence[_Entry], base: Mapping[str, Any]) -> Space:
        found: list[Parameter] = []
        for entry in entries:
            if self._conditions_known(entry):
                found += self._parameters(entry, found, entries)
        found = self._settled(found, base)
        for parameter in found:
            self._check_values(parameter)
        try:
            space = Space(tuple(found))
        except ValueError as error:
            self.problems.append(Problem("search", str(error)))
            return Space()
        if entries and not found and not self.problems:
            asked = ", ".join(dict.fromkeys(entry.key for entry in entries))
            why = f"nothing to search: of {asked} nothing applies to {_chosen(self.chosen)}"
            self.problems.append(Problem("search", why, self.chosen.get("search")))
        return space

    def _conditions_known(self, entry: _Entry) -> bool:
        problems = []
        for condition in entry.conditions:
            group, dot, name = condition.key.partition(".")
            if not dot and group in GROUPS:
                problems += [p for value in condition.values if (p := self.catalogue.unknown(group, value))]
            elif dot and group in GROUPS:
                if not self._some_choice_has(group, name):
                    problems.append(self._unknown(condition.key))
            elif condition.key not in SEARCHABLE:
                problems.append(self._unknown(condition.key))
        self.problems += [replace(p, key=f"when.{p.key}", where=entry.where) for p in problems]
        return not problems

    def _parameters(self, entry: _Entry, before: Sequence[Parameter], entries: Sequence[_Entry]) -> list[Parameter]:
        """The parameters that an entry stands for: one, or with `usual` one for each range of the choices."""
        group, dot, name = entry.key.partition(".")
        if group == "data":
            why = "a sweep has one data set and one split, or its values could not be compared"
            self.problems.append(Problem(entry.key, why, where=entry.where))
            return []
        if not dot:
            return self._plain_parameter(entry)
        if group not in GROUPS:
            self.problems.append(
                Problem(entry.key, "cannot be searched", where=entry.where)
                if group in PARTS
                else self._unknown(entry.key, where=entry.where)
            )
            return []
        limits = [c for c in entry.conditions if c.key == group]
        in_play = [n for n in self.specs[group] if all(c.holds(n) for c in limits)]
        having = [n for n in in_play if name in self.arguments(group, self.specs[group][n])]
        if not having:
            if in_play and entry.sweep != USUAL:
                problem = self._unknown(entry.key, where=entry.where)
                if entry.where is not None and self._some_choice_has(group, name):
                    self.notes.append(f"{entry.key} is not searched: {group}={', '.join(in_play)} has no {name}")
                else:
                    self.problems.append(problem)
            return []
        searched = any(e.key == group for e in entries)
        others = tuple(c for c in entry.conditions if c.key != group)
        conditional = any(e.key == group and e.conditions for e in entries)

        def made(domain: Domain, names: Sequence[str]) -> Parameter:
            everywhere = not conditional and len(names) == len(self.specs[group])
            implied = (Condition(group, tuple(names)),) if searched and not everywhere else ()
            return Parameter(entry.key, domain, (*others, *implied))

        if entry.sweep != USUAL:
            domain = self._domain(entry.key, entry.sweep, where=entry.where)
            return [made(domain, having)] if domain else []
        return [made(domain, names) for domain, names in self._usual(entry, group, name, having)]

    def _some_choice_has(self, group: str, name: str) -> bool:
        """Whether any choice of the catalogue, in play or not, has this argument."""
        specs = [
            *self.specs[group].values(),
            *(self.catalogue.choice(group, c)[0] for c in self.catalogue.files[group]),
        ]
        return any(name in self.arguments(group, spec) for spec in specs)

    def _plain_parameter(self, entry: _Entry) -> list[Parameter]:
        """The parameter of a whole group or of a root key."""
        if entry.key in GROUPS:
            names = self._names(entry)
            return [Parameter(entry.key, Choice(tuple(names)), entry.conditions)] if names else []
        if entry.key not in SEARCHABLE:
            if entry.key not in ROOT_KEYS and entry.key not in self.catalogue.files and entry.key not in self.given:
                self.problems.append(self._unknown(entry.key, where=entry.where))
            elif entry.key not in ROOT_KEYS and entry.key in self.catalogue.files:
                self.problems.append(Problem(entry.key, "cannot be searched", where=entry.where))
            return []
        domain = self._domain(entry.key, entry.sweep, where=entry.where)
        return [Parameter(entry.key, domain, entry.conditions)] if domain else []

    def _usual(self, entry: _Entry, group: str, name: str, having: Sequence[str]) -> list[tuple[Domain, list[str]]]:
        """The usual ranges of a key, with the choices that have each; a choice that gives none keeps its value."""
        found: list[tuple[Domain, list[str]]] = []
        for choice in having:
            text = self.usual[group][choice].get(name)
            file = self.catalogue.files[group][choice]
            if text is None:
                continue
            try:
                domain = to_domain(_sweep(entry.key, text))
            except ValueError as error:
                self.problems.append(Problem(entry.key, str(error), text, where=str(file)))
                continue
            for known, names in found:
                if known == domain:
                    names.append(choice)
                    break
            else:
                found.append((domain, [choice]))
        if not found:
            given_none = f"{group}={', '.join(having)} gives no usual range (a search: block)"
            self.notes.append(f"{entry.key} is not searched: {given_none}")
        return found

    def _settled(self, found: list[Parameter], base: Mapping[str, Any]) -> list[Parameter]:
        """Conditions on what is not searched are decided now; what can never apply is left out."""
        while True:
            domains: dict[str, list[Domain]] = {}
            for parameter in found:
                domains.setdefault(parameter.key, []).append(parameter.domain)
            settled = [p for parameter in found if (p := self._decided(parameter, domains, base))]
            if settled == found:
                return found
            found = settled

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

    def _check_values(self, parameter: Parameter) -> None:
        """The values of a domain against the annotation of what they are for."""
        group, dot, name = parameter.key.partition(".")
        if not dot and group in GROUPS:
            return
        domain = parameter.domain
        if dot:
            names = next((c.values for c in parameter.conditions if c.key == group), tuple(self.specs[group]))
            annotations = [
                known[name].annotation for n in names if name in (known := self.arguments(group, self.specs[group][n]))
            ]
        else:
            annotations = [parameters(Settings)[name or group].annotation]
        for annotation in annotations:
            for value in domain.ends():
                if why := mismatch(value, annotation):
                    if isinstance(domain, Interval) and not domain.integer and not mismatch(1, annotation):
                        why += f"; write int(interval({domain.low:g}, {domain.high:g}))"
                    self.problems.append(Problem(parameter.key, why, value))
                    self.buildable = False
                    break
        if not dot and not any(p.key == parameter.key for p in self.problems):
            for value in domain.ends():
                own = [p for p in settings_problems({**self.settings, parameter.key: value}) if p.key == parameter.key]
                self.problems += own
        if (
            parameter.key in self.given
            and isinstance(domain, Range)
            and domain.start + domain.size * domain.step != domain.stop
        ):
            self.notes.append(f"{parameter.key} takes {domain.describe()} (the step does not reach {domain.stop:g})")

    # 6. sampler, scheduler, tracking, cluster

    def check_parts(self, parts: Mapping[str, Mapping[str, Any]], space: Space) -> int:
        """Check the parts with each other; how many trials there will be."""
        built: dict[str, Any] = {}
        for part, spec in parts.items():
            try:
                built[part] = build(spec, allowed=self.allowed)
            except ConfigError:
                continue  # told by check_specs
            except ValueError as error:
                first, _, rest = str(error).partition(" ")
                known = first in self.arguments(part, spec)
                self.problems.append(Problem(f"{part}.{first}", rest) if known else Problem(part, str(error)))
        trials = self.settings.get("trials")
        if not self.sound or not isinstance(trials, int):
            return 0
        self._check_resources()
        scheduler = built.get("scheduler")
        if (grace := getattr(scheduler, "grace_epochs", None)) is not None and grace >= self.settings["epochs"]:
            why = f"must be below epochs ({self.settings['epochs']}), or nothing would be stopped"
            self.problems.append(Problem("scheduler.grace_epochs", why, grace))
        if not space.parameters and not self.problems:
            if trials > 1:
                self.notes.append("nothing is searched: one trial")
            return 1
        return self._limit(built["sampler"], space, trials) if "sampler" in built else trials

    def _limit(self, sampler: Any, space: Space, trials: int) -> int:
        """How many trials the sampler can give; a grid gives all of its points unless the user says how many."""
        problems = sampler.problems(space, trials)
        self.problems += [Problem("sampler", why, self.chosen["sampler"]) for why in problems]
        if problems:
            return trials
        limit = int(sampler.limit(space, trials))
        if "trials" in self.given and limit < trials:
            self.notes.append(f"the space has {limit:,} configurations: {limit:,} trials, not {trials:,}")
        return min(limit, trials) if "trials" in self.given else limit

    def _check_resources(self) -> None:
        if self.chosen["cluster"] != "local":
            return
        cpus, gpus = _cpus(), _gpus()
        if self.settings["cpus_per_trial"] > cpus:
            why = f"this machine has {cpus}; cluster=ray uses others"
            self.problems.append(Problem("cpus_per_trial", why, self.settings["cpus_per_trial"]))
        if self.settings["gpus_per_trial"] > gpus:
            why = f"this machine has {gpus or 'no'} GPU{'s' if gpus > 1 else ''}; cluster=ray uses others"
            self.problems.append(Problem("gpus_per_trial", why, self.settings["gpus_per_trial"]))

    def fits(self) -> int | None:
        """How many trials have room at a time; None where the cluster decides."""
        if self.chosen["cluster"] != "local" or not self.sound or self.problems:
            return None
        room = _cpus() / self.settings["cpus_per_trial"]
        if self.settings["gpus_per_trial"] > 0:
            room = min(room, _gpus() / self.settings["gpus_per_trial"])
        most = [math.floor(room + 1e-9), self.settings["trials"], self.settings["max_concurrent"]]
        return int(min(number for number in most if number is not None))

    # 7. where a problem came from

    def _located(self, problem: Problem) -> Problem:
        """The problem with file and line, where its key was written in a YAML of the user's."""
        if problem.where or problem.key in self.given or problem.key.startswith("/"):
            return problem
        keys = problem.key.removeprefix("when.").split(".")
        for folder in reversed(self.catalogue.folders):
            for name in (f"experiment/{self.chosen.get('experiment')}", self.config_name):
                if line := yaml_files.line_of(folder / f"{name}.yaml", keys):
                    return replace(problem, where=f"{folder / name}.yaml:{line}")
        if keys[0] in self.specs:
            for choice in self.specs[keys[0]]:
                path = self.catalogue.files[keys[0]].get(choice)
                if path is not None and (line := yaml_files.line_of(path, keys[1:])):
                    return replace(problem, where=f"{path}:{line}")
        return problem


def _sweep(key: str, text: object) -> Any:
    """A sweep written in a YAML; ValueError where it is none."""
    if text == USUAL:
        return USUAL
    if not isinstance(text, str):
        raise ValueError(f"must be {USUAL} or a sweep: {_SWEEPS}")
    override = parse(f"{key}={text}")
    if not override.is_sweep_override() or re.search(r"\b(shuffle|sort)\s*\(", text):
        raise ValueError(f"must be {USUAL} or a sweep: {_SWEEPS}")
    return override.value()


def _probes(made: SweepPlan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Configurations that show every choice and both ends of every range once, each with a label; at most MAX_PROBES."""
    seen: list[Mapping[str, Any]] = []
    for params in [{}, *(p for parameter in made.space.parameters for p in _showing(made.space, parameter))]:
        if params in seen or len(seen) >= MAX_PROBES:
            continue
        seen.append(params)
        yield ", ".join(f"{key}={value}" for key, value in params.items()) or _BASE, trial_config(made, params)


def _showing(space: Space, parameter: Parameter) -> Iterator[dict[str, Any]]:
    """Values under which `parameter` is active, with each end of its domain; every value of its conditions occurs."""
    for end in parameter.domain.ends():
        turns = max([len(c.values) for c in parameter.conditions], default=1)
        for turn in range(turns):
            params: dict[str, Any] = {}
            _activate(space, parameter, params, turn)
            yield {**params, parameter.key: end}


def _activate(space: Space, parameter: Parameter, params: dict[str, Any], turn: int) -> None:
    """Set what the conditions of `parameter` ask for, and in turn what theirs do."""
    for condition in parameter.conditions:
        for other in space.parameters:
            allowed = [value for value in condition.values if other.domain.contains(value)]
            if other.key == condition.key and condition.key not in params and allowed:
                _activate(space, other, params, turn)
                params[condition.key] = allowed[turn % len(allowed)]


def _tried(draft: _Draft, made: SweepPlan, probes: Sequence[tuple[str, dict[str, Any]]]) -> SweepPlan:
    """The plan with what building and looking at the probes showed."""
    from orchestrator.training import preflight

    result = preflight.check(probes)
    everywhere = [problem.where is not None and problem.where.startswith(_BASE) for problem in result.problems]
    draft.problems += [replace(p, where=None) if e else p for p, e in zip(result.problems, everywhere, strict=True)]
    facts = json.loads(json.dumps(result.facts))  # as it will be read elsewhere: no tuples
    return replace(made, facts={**made.facts, **facts})


def read_user_settings() -> list[str]:
    """`allowed_targets` of the user's own settings file ($ORCHESTRATOR_SETTINGS, ~/.config/orchestrator/settings.yaml)."""
    named = os.environ.get("ORCHESTRATOR_SETTINGS")
    path = Path(named) if named else Path.home() / ".config" / "orchestrator" / "settings.yaml"
    if not path.is_file():
        return []
    settings = yaml_files.read(path)
    problems = [
        unknown_key(key, value, ["allowed_targets"]) for key, value in settings.items() if key != "allowed_targets"
    ]
    allowed = settings.get("allowed_targets") or []
    if why := mismatch(allowed, list[str]):
        problems.append(Problem("allowed_targets", why, allowed))
    if problems:
        raise ConfigError([replace(problem, where=str(path)) for problem in problems])
    return list(allowed)


def _environment(name: str, default: str | None = None) -> str | None:
    """What `${oc.env:NAME}` gives."""
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in ENVIRONMENT):
        raise ValueError(f"${{oc.env:{name}}} is not allowed; the environment gives {', '.join(ENVIRONMENT)}")
    value = os.environ.get(name, default)
    if value is None:
        raise ValueError(f"the environment has no {name}")
    return value


def _circle(config: Any) -> str:
    """The keys of an interpolation cycle."""
    refers: dict[str, list[str]] = {}

    def walk(node: object, path: str) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                walk(value, f"{path}.{key}".lstrip("."))
        elif isinstance(node, str):
            refers[path.removeprefix("given ")] = re.findall(r"\$\{([\w.]+)\}", node)

    walk(config, "")
    for start in refers:
        path = [start]
        while path[-1] in refers and refers[path[-1]] and path[-1] not in path[:-1]:
            path.append(refers[path[-1]][0])
        if path[-1] in path[:-1]:
            return " -> ".join(path[path.index(path[-1]) :])
    return "each needs the other"


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _gpus() -> int:
    """How many NVIDIA devices this process may see; counted without loading torch."""
    there = len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else min(there, len([name for name in visible.split(",") if name.strip()]))


def _is_json(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _chosen(chosen: Mapping[str, str]) -> str:
    return " ".join(f"{group}={chosen[group]}" for group in ("model", "norm", "init", "optimizer") if group in chosen)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
