"""The command line sorted, and Hydra's part: composing the defaults list and resolving interpolations."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hydra import compose as compose_with_hydra
from hydra import initialize_config_dir
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from orchestrator.base.build import parameters
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.groups import GROUPS, SEARCHES
from orchestrator.base.plain import why_not_plain
from orchestrator.base.settings import Settings
from orchestrator.space import Choice

from .files import Catalogue
from .foreign import list_of, search_of, spaced
from .grammar import NO_ORDER, SPACE_BLOCKS, as_annotated, orders, parse, plain, to_domain, typed

ENVIRONMENT = ("HOME", "USER", "TMPDIR", "SCRATCH", "SLURM_*", "ORCHESTRATOR_*")  # what ${oc.env:...} may read
SEQUENCE = "sequence"  # a choice that takes a list of the others of its group as its `steps`
_GIVEN = "given "  # leads the names under which values of the command line are resolved beside the configuration


@dataclass(frozen=True)
class Overrides:
    """The command line: fixed values, swept ones and keys taken out of the search, each by key."""

    fixed: Mapping[str, Override]
    swept: Mapping[str, Override]
    removed: frozenset[str]

    def __contains__(self, key: str) -> bool:
        return key in self.fixed or key in self.swept

    def text(self, key: str) -> str | None:
        """What was typed for a key, None where nothing was."""
        override = self.fixed.get(key) or self.swept.get(key)
        return typed(override) if override else None


def read_overrides(texts: Sequence[str], catalogue: Catalogue, problems: list[Problem]) -> Overrides:
    """The overrides that can be used; what is wrong with the others is added to `problems`."""
    fixed: dict[str, Override] = {}
    swept: dict[str, Override] = {}
    removed: set[str] = set()
    texts, torn = spaced(texts)
    problems += [Problem(typed, hint) for typed, hint in torn]
    for text in texts:
        try:
            override = parse(text)
            key = _key(override, text, catalogue)
        except ValueError as error:
            hint = search_of(*text.split("=", 1)) if "=" in text else None
            problems.append(Problem(text or "''", str(error) if hint is None else "cannot be read", hint=hint))
            continue
        if override.type is OverrideType.DEL:
            removed.add(key)
        elif key in fixed or key in swept:
            problems.append(Problem(key, "is given twice", typed(override)))
        elif override.is_sweep_override():
            swept[key] = override
        elif key in catalogue.files and (problem := catalogue.unknown(key, plain(override.value()))):
            problems.append(replace(problem, hint=_list_hint(key, typed(override), catalogue) or problem.hint))
        else:
            fixed[key] = override
    return Overrides(fixed, swept, frozenset(removed))


def _list_hint(group: str, text: str, catalogue: Catalogue) -> str | None:
    """The hint for a list of choices: they are searched, or in a group that can, done one after the other."""
    hint = list_of(group, text)
    if hint and SEQUENCE in catalogue.files[group]:
        hint += f"; for one after the other  {group}={SEQUENCE} {group}.steps={shlex.quote(text)}"
    return hint


def _key(override: Override, text: str, catalogue: Catalogue) -> str:
    """The override's key, or ValueError for what is Hydra's and has no meaning here."""
    key = override.key_or_group
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        raise ValueError("Hydra's own settings do not apply; runs_dir says where everything goes")
    if override.package is not None or "/" in key:
        raise ValueError("groups stand side by side: no packages (@), no paths (/)")
    if override.is_sweep_override() and orders(text.partition("=")[2]):
        raise ValueError(NO_ORDER)
    if override.type is OverrideType.DEL and key in catalogue.files:
        raise ValueError(f"a group always has a choice: {key}={', '.join(catalogue.files[key])}")
    if key.split(".")[0] in (*SEARCHES, *SPACE_BLOCKS) and key not in catalogue.files:
        raise ValueError("a search space is given by its keys: optimizer.lr='tag(log,interval(1e-4,1))'")
    return key


@dataclass(frozen=True)
class Composed:
    """Plain data from here on.

    Args:
        values: the composed configuration with the root keys of the command line, interpolations resolved.
        chosen: group -> the choice that was composed.
        late: values of the command line that held an interpolation, resolved.
    """

    values: Mapping[str, Any]
    chosen: Mapping[str, str]
    late: Mapping[str, Any]


def compose(catalogue: Catalogue, config_name: str, overrides: Overrides) -> Composed:
    """Compose the defaults list with the groups of the command line.

    Raises:
        ConfigError: no such root file, one that cannot be read, or files or interpolations that do not fit together.
    """
    if damage := catalogue.check(config_name, _picks(catalogue, overrides)):
        raise ConfigError(damage)
    folder, others = catalogue.primary(config_name)
    path = [f'hydra.searchpath=["file://{other}"]' for other in others]
    picks = [f"{group}={name}" for group, name in _picks(catalogue, overrides)]
    try:
        with _byte_order_marks(), initialize_config_dir(config_dir=str(folder), version_base="1.3"):
            config = compose_with_hydra(config_name, [*path, *picks], return_hydra_config=True)
    except Exception as error:  # Hydra reads files of the user's that nobody checked, and raises what comes
        raise ConfigError(Problem(config_name, _first_line(error))) from error
    chosen = {group: name for group, name in config.hydra.runtime.choices.items() if group in catalogue.files}
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    roots = {key: declared.annotation for key, declared in parameters(Settings).items() if key in overrides.fixed}
    late = {key: value for key, o in overrides.fixed.items() if "${" in str(value := plain(o.value()))}
    given = {key: as_annotated(overrides.fixed[key], annotation) for key, annotation in roots.items()}
    for key, value in [*given.items(), *((_GIVEN + key, value) for key, value in late.items())]:
        try:
            config[key] = value
        except (OmegaConfBaseException, ValueError) as error:
            raise ConfigError(Problem(key.removeprefix(_GIVEN), _first_line(error), str(value))) from error
    values = _resolved(config)
    _check_plain(values, catalogue)
    return Composed(values, chosen, {key: values.pop(_GIVEN + key) for key in late})


def _check_plain(values: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Raise ConfigError where a composed value is no plain data, or a group holds something else than its arguments."""
    problems = [Problem(key, why) for key, value in values.items() if (why := why_not_plain(value))]
    for group, files in catalogue.files.items():
        node = values.get(group)
        if node is not None and not isinstance(node, Mapping):
            known = f"- override /{group}: {next(iter(files), 'NAME')}"
            problems.append(Problem(group, f"a choice is written in the defaults list of a YAML ({known})", node))
    if problems:
        raise ConfigError(problems)


@contextmanager
def _byte_order_marks() -> Iterator[None]:
    """Hydra reads a `# @package` line behind a byte-order mark, which it would overlook (1.3)."""
    header = ConfigSource._get_header_dict
    ConfigSource._get_header_dict = staticmethod(lambda text: header(text.removeprefix("\ufeff")))  # type: ignore[assignment]
    try:
        yield
    finally:
        ConfigSource._get_header_dict = staticmethod(header)  # type: ignore[assignment]


def _picks(catalogue: Catalogue, overrides: Overrides) -> Iterator[tuple[str, str]]:
    """The groups chosen on the command line; of a searched one the first choice, as all are swapped in later."""
    for group, files in catalogue.files.items():
        if group in overrides.fixed:
            yield group, plain(overrides.fixed[group].value())
        elif group in overrides.swept and group in GROUPS:
            try:
                domain = to_domain(overrides.swept[group].value(), files)
            except ValueError:
                continue  # reported where the search space is made
            if isinstance(domain, Choice) and domain.values[0] in list(files):
                yield group, domain.values[0]


def _resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data; of the environment `${oc.env:...}` sees what is allowed."""
    OmegaConf.register_new_resolver("oc.env", _environment, replace=True)
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, RecursionError, ValueError, TypeError) as error:
        key = str(getattr(error, "full_key", None) or "interpolation").removeprefix(_GIVEN)
        why = _first_line(error).removeprefix("ValueError raised while resolving interpolation: ")
        if "ecursi" in why:
            why = f"interpolations go round in a circle: {_circle(OmegaConf.to_container(config))}"
        raise ConfigError(Problem(key, why)) from error
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


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
            refers[path.removeprefix(_GIVEN)] = re.findall(r"\$\{([\w.]+)\}", node)

    walk(config, "")
    for start in refers:
        path = [start]
        while refers.get(path[-1]) and path[-1] not in path[:-1]:
            path.append(refers[path[-1]][0])
        if path[-1] in path[:-1]:
            return " -> ".join(path[path.index(path[-1]) :])
    return "each needs the other"


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
