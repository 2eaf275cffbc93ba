"""Whether a trial that continues is the one that it was: its configuration then and now."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.base.build import parameters, resolve, with_current_names
from orchestrator.base.records import GROUPS

NOT_COMPARED = ("choices", "import_paths", "allowed_targets", "data_cache", "data_entry", "report_every_s")
"""Entries of a configuration that may change when a trial continues: they name places and times, not what is computed."""

DATA_NOT_COMPARED = ("root", "download")
"""The same of the data group; that they are the same data is what the fingerprint says."""


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a trial's results depend on, as JSON gives it back."""
    kept: dict[str, Any] = {key: value for key, value in config.items() if key not in NOT_COMPARED}
    kept["data"] = {key: value for key, value in config["data"].items() if key not in DATA_NOT_COMPARED}
    return json.loads(json.dumps(kept))  # type: ignore[no-any-return]


def differences(before: Mapping[str, Any], now: Mapping[str, Any], *, allowed: Collection[str] = ()) -> list[str]:
    """What differs between two results of `compared`, by dotted key: "optimizer.lr=0.1 there, 0.2 here".

    `before` may be of an earlier version: its targets go by the names of today, an argument that there was not has its default,
    and a root key that there was not is not compared.

    Args:
        allowed: targets that the user allows, as for `build`.
    """
    before = with_current_names(before)
    found = []
    for key in dict.fromkeys([*before, *now]):
        one, other = before.get(key), now.get(key)
        if one == other or (key not in before and key not in GROUPS):
            continue
        if key not in GROUPS or not isinstance(one, Mapping) or not isinstance(other, Mapping):
            found.append(f"{key}={_shown(one)} there, {_shown(other)} here")
        elif one.get("_target_") != other.get("_target_"):
            found.append(f"{key}={_shown(one.get('_target_'))} there, {_shown(other.get('_target_'))} here")
        else:
            defaults = _defaults(other, allowed)
            one, other = defaults | dict(one), defaults | dict(other)
            names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
            found += [f"{key}.{name}={_shown(one.get(name))} there, {_shown(other.get(name))} here" for name in names]
    return found


def _defaults(spec: Mapping[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    """The default of each argument of a spec's target, as JSON gives it back; those that JSON cannot hold are left out."""
    if not spec:
        return {}
    found = {}
    for name, parameter in parameters(resolve(spec["_target_"], allowed)).items():
        if parameter.default is not parameter.empty:
            with contextlib.suppress(TypeError, ValueError):
                found[name] = json.loads(json.dumps(parameter.default))
    return found


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
