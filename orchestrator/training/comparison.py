"""Whether a trial that continues is the one that it was: its configuration then and now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.base.groups import GROUPS, PLACES
from orchestrator.base.settings import PLACE_KEYS, PRETRAINED_FILES
from orchestrator.base.upgrades import current_config, differing_arguments
from orchestrator.training.pretrained import file_of, ticket_of


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a trial's results depend on, as JSON gives it back."""
    kept: dict[str, Any] = {key: value for key, value in config.items() if key not in ("choices", *PLACE_KEYS)}
    if config.get(PRETRAINED_FILES) and (file := file_of(config)):
        kept["pretrained"] = file["sha256"]  # wherever it lies
    if config.get(PRETRAINED_FILES) and (ticket := ticket_of(config)):
        kept["ticket"] = ticket["sha256"]
    for group, names in PLACES.items():
        kept[group] = {key: value for key, value in config[group].items() if key not in names}
    return json.loads(json.dumps(kept))  # type: ignore[no-any-return]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two results of `compared`, by dotted key: "optimizer.lr=0.1 there, 0.2 here".

    Either may be of an earlier version: its targets go by the names of today, what it leaves out has its default.
    """
    before, now = (compared(current_config(config)) for config in (before, now))
    found = []
    for key in dict.fromkeys([*before, *now]):
        one, other = before.get(key), now.get(key)
        if one == other:
            continue
        if key not in GROUPS or not isinstance(one, Mapping) or not isinstance(other, Mapping):
            found.append(f"{key}={_shown(one)} there, {_shown(other)} here")
        elif one.get("_target_") != other.get("_target_"):
            found.append(f"{key}={_shown(one.get('_target_'))} there, {_shown(other.get('_target_'))} here")
        else:
            names = differing_arguments(one, other)
            found += [f"{key}.{name}={_shown(one.get(name))} there, {_shown(other.get(name))} here" for name in names]
    return found


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
