"""What a trial's network costs, as the facts of a plan record it: found while planning, read by who shows a sweep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from orchestrator.base.groups import OF_COSTS, SEARCHABLE_ARGUMENTS

MULTIPLY_ADDS = "multiply_adds"
"""The fact: `key_of` a configuration -> forward multiply-adds of an image in [each epoch, once at the beginning]."""


def key_of(config: Mapping[str, Any]) -> str:
    """What tells apart configurations whose networks cost differently."""
    parts = {key: _of_network(key, config.get(key)) for key in OF_COSTS}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()[:16]


def trial_multiply_adds(facts: Mapping[str, Any], config: Mapping[str, Any], epochs: int) -> float | None:
    """Forward multiply-adds of a trial's training images; None where the plan did not work them out.

    Args:
        facts: of the plan; whatever a journal holds.
        epochs: that the trial trained.
    """
    known, images = facts.get(MULTIPLY_ADDS), facts.get("train")
    found = known.get(key_of(config)) if isinstance(known, Mapping) else None
    if not isinstance(found, list | tuple) or len(found) != 2 or not all(map(_counts, (*found, images))):
        return None
    each, once = found
    return float(each * epochs + once) * float(images or 0)


def _of_network(group: str, spec: Any) -> Any:
    """A spec without the arguments of which the network knows nothing."""
    if not isinstance(spec, Mapping):
        return spec
    return {name: value for name, value in spec.items() if f"{group}.{name}" not in SEARCHABLE_ARGUMENTS}


def _counts(number: object) -> bool:
    return isinstance(number, int) and 0 <= number < 2**62
