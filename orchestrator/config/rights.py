"""Where rights come from: the command line, and the user's own settings file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.base import yaml_files
from orchestrator.base.build import mismatch, unknown_key
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.rights import Rights
from orchestrator.base.targets import current_name, refusal, targets_in

KEYS = ("allowed_targets", "import_paths")
"""The root keys that give rights."""


def read_user_rights() -> Rights:
    """What the user's own settings file allows ($ORCHESTRATOR_SETTINGS, ~/.config/orchestrator/settings.yaml).

    Raises:
        ConfigError: it is no YAML, or holds something else.
    """
    named = os.environ.get("ORCHESTRATOR_SETTINGS")
    path = Path(named) if named else Path.home() / ".config" / "orchestrator" / "settings.yaml"
    if not path.is_file():
        return Rights()
    settings = yaml_files.read(path)
    problems = [unknown_key(key, value, KEYS) for key, value in settings.items() if key not in KEYS]
    given = {key: settings.get(key) or [] for key in KEYS}
    problems += [Problem(key, why, value) for key, value in given.items() if (why := mismatch(value, list[str]))]
    if problems:
        raise ConfigError([replace(problem, where=str(path)) for problem in problems])
    try:
        return rights_of(given["allowed_targets"], given["import_paths"], path.parent)
    except ConfigError as error:
        raise ConfigError([replace(problem, where=str(path)) for problem in error.problems]) from error


def rights_of(targets: Sequence[str], import_paths: Sequence[str], base: Path) -> Rights:
    """Rights as they are written; a relative folder lies below `base`.

    Raises:
        ConfigError: one holds a character that no name and no path has.
    """
    for key, texts in zip(KEYS, (targets, import_paths), strict=True):
        for text in texts:
            if not text.isprintable():
                raise ConfigError(Problem(key, "holds a character that no name has", repr(text)))
    return Rights(tuple(targets), tuple(str(base / Path(path).expanduser()) for path in import_paths))


def typed_rights(overrides: Sequence[str]) -> tuple[Rights, list[str]]:
    """The rights among overrides, with those of the settings file, and the other overrides.

    Modules are looked for in the current folder where no `import_paths` says otherwise.

    Raises:
        ConfigError: an override of rights cannot be read.
    """
    typed, others = split_rights(overrides)
    targets, folders = (_texts(key, [text for text in typed if _key(text) == key]) for key in KEYS)
    rights = rights_of(targets, folders, Path.cwd()) | read_user_rights()
    if rights.targets and not rights.import_paths:
        rights = replace(rights, import_paths=(str(Path.cwd()),))
    return rights, others


def split_rights(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides that give rights, and the others."""
    return [text for text in overrides if _key(text) in KEYS], [text for text in overrides if _key(text) not in KEYS]


def spelled(rights: Rights) -> list[str]:
    """The overrides that give these rights."""
    pairs = zip(KEYS, (rights.targets, rights.import_paths), strict=True)
    return [f"{key}=[{','.join(map(_quoted, values))}]" for key, values in pairs if values]


def retyped(rights: Rights) -> str:
    """What has to be typed again behind a command about a sweep of these rights; those of the settings file need not."""
    own = read_user_rights()
    more = [target for target in rights.targets if target not in own.targets]
    return "".join(f" {shlex.quote(text)}" for text in spelled(replace(rights, targets=tuple(more)))) if more else ""


def retyped_for(plan: Mapping[str, Any]) -> str:
    """What has to be typed behind a command about a recorded plan that uses code of the user's; nothing where it uses none."""
    lacking = [name for target in targets_in(plan) if refusal(name := current_name(target), Rights())]
    return retyped(Rights(tuple(lacking), tuple(_recorded_folders(plan)))) if lacking else ""


def check_recorded(what: str, plan: Mapping[str, Any], rights: Rights, *, how: str = "") -> None:
    """Raise ConfigError, with what to pass, where a record names targets that these rights do not allow.

    Args:
        what: the sweep or trial, for the message.
        plan: a recorded plan or configuration as plain data; what it allows itself counts for nothing.
        how: what to pass instead of overrides; `{targets}` and `{folders}` stand for the lists.
    """
    names = [current_name(name) for name in targets_in(plan)]
    lacking = [name for name in names if refusal(name, rights)]
    if not lacking:
        return
    hopeless = [name for name in lacking if refusal(name, Rights((name,)))]
    if hopeless:
        raise ConfigError(Problem("_target_", refusal(hopeless[0], rights) or "", hopeless[0], where=what))
    folders = _recorded_folders(plan)
    more = Rights(tuple(lacking), tuple(folders))
    told = how.format(targets=list(more.targets), folders=folders) if how else " ".join(spelled(more))
    raise ConfigError(
        Problem(
            "allowed_targets",
            f"{what} uses {', '.join(lacking)}, not in the catalogue, and a record gives no rights; if you trust that"
            f" code, add  {told}",
        )
    )


def _recorded_folders(plan: Mapping[str, Any]) -> list[str]:
    """Where modules lay when the sweep was launched: a hint for the user, never used by itself."""
    config = plan.get("base", plan)
    found = config.get("import_paths") if isinstance(config, Mapping) else None
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


def _texts(key: str, overrides: Iterable[str]) -> list[str]:
    """The list of texts that an override gives."""
    from orchestrator.config.grammar import parse, plain

    value: Any = []
    for text in overrides:
        try:
            override = parse(text)
            value = None if override.is_sweep_override() else plain(override.value())
        except ValueError as error:
            raise ConfigError(Problem(text, str(error))) from error
    value = [value] if isinstance(value, str) else value
    if why := mismatch(value, list[str]):
        raise ConfigError(Problem(key, f"{why}: {key}=[a,b]", value))
    return list(value)


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return (
        text if text.replace("_", "").replace(".", "").replace("/", "").isalnum() and text.isascii() else f"'{escaped}'"
    )
