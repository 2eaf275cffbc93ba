"""What earlier versions wrote, read as today's: what a record lacks has the default that it has today."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.base import yaml_files
from orchestrator.base.build import parameters
from orchestrator.base.errors import ConfigError
from orchestrator.base.groups import GROUPS, PARTS
from orchestrator.base.secrets import bare_address
from orchestrator.base.settings import CONF, ROOT_KEYS, TRIAL_KEYS, launch_defaults
from orchestrator.base.targets import resolve, with_current_names

_ABSENT = object()


def current_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's recorded configuration with today's names, and with the groups and root keys added since at their defaults.

    Arguments of a target that were added since stay absent: their default is in its signature.
    """
    found: dict[str, Any] = with_current_names(config)
    for key in TRIAL_KEYS:
        if key not in found:
            found[key] = launch_defaults()[key]
    if added := [group for group in GROUPS if group not in found]:
        found |= {group: default_spec(group) for group in added}
        if "choices" in found:
            found["choices"] = {**found["choices"], **{group: default_choice(group) for group in added}}
    return found


def current_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded plan, as plain data, brought up to date in the same way; its parts with all their arguments."""
    found: dict[str, Any] = with_current_names(plan)
    defaults = {key: launch_defaults()[key] for key in ROOT_KEYS if key not in found["settings"]}
    found["settings"] = {**found["settings"], **defaults}
    found["base"] = current_config(found["base"])
    if uri := (found.get("tracking") or {}).get("uri"):
        found["tracking"] = {**found["tracking"], "uri": bare_address(uri)}
    return found | {part: with_defaults(found.get(part) or default_spec(part)) for part in PARTS}


def default_choice(group: str) -> str:
    """The choice of a group where nobody chooses."""
    return next(str(entry[group]) for entry in launch_defaults()["defaults"] if group in entry)


def default_spec(group: str) -> dict[str, Any]:
    """The spec of a group's default choice."""
    spec = yaml_files.read(CONF / group / f"{default_choice(group)}.yaml")
    spec.pop("search", None)
    return spec


def with_defaults(spec: Mapping[str, Any], names: Collection[str] | None = None) -> dict[str, Any]:
    """The spec with the arguments that it leaves out, of `names` or all, at the defaults of its target's signature."""
    if not spec:
        return {}
    try:
        known = parameters(resolve(spec["_target_"]))
    except ConfigError:
        return dict(spec)  # whoever builds it reports why
    left_out = [name for name in known if name not in spec and (names is None or name in names)]
    defaults = {name: _plain(known[name].default) for name in left_out}
    return {**spec, **{name: value for name, value in defaults.items() if value is not _ABSENT}}


def differing_arguments(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The arguments in which two specs of one target differ; one that is left out counts as its default.

    The target is looked at only where one of the specs leaves out what the other has.
    """
    if left_out := one.keys() ^ other.keys():
        one, other = (with_defaults(spec, left_out) for spec in (one, other))
    return [name for name in dict.fromkeys([*one, *other]) if one.get(name, _ABSENT) != other.get(name, _ABSENT)]


def _plain(default: Any) -> Any:
    """A default as JSON gives it back; `_ABSENT` for one that no record can hold."""
    if isinstance(default, tuple | list):
        items = [_plain(item) for item in default]
        return _ABSENT if _ABSENT in items else items
    return default if isinstance(default, str | bool | int | float | None) else _ABSENT
