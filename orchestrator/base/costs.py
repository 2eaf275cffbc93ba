"""What a trial's network costs, as the facts of a plan record it: found while planning, read by who shows a sweep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeGuard

from orchestrator.base.groups import OF_COSTS, SEARCHABLE_ARGUMENTS

MULTIPLY_ADDS = "multiply_adds"
"""The fact: `key_of` a configuration -> forward multiply-adds of an image in [each epoch, once at the beginning]."""


def key_of(config: Mapping[str, Any]) -> str:
    """What tells apart configurations whose networks cost differently."""
    parts = {key: _of_network(key, config.get(key)) for key in OF_COSTS}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()[:16]


COSTS = "costs"
"""The fact: [label, parameters, each epoch, once] of the same networks, in the same order."""

Costs = tuple[int | None, int | None]
"""Parameters, and multiply-adds of the prediction of an image; None where they are not known."""

LONGEST_COUNT = 2**62


def known_costs(facts: Mapping[str, Any], keys: Collection[str] = ()) -> dict[str, Costs]:
    """What networks cost, by `key_of` their configurations; empty where the plan did not work it out.

    Args:
        facts: of the plan; whatever a journal holds.
        keys: of all trials of the sweep; where there is but one, the largest network is that of all.
    """
    adds, rows = facts.get(MULTIPLY_ADDS), facts.get(COSTS)
    adds = {str(key): pair for key, pair in adds.items() if _is_pair(pair)} if isinstance(adds, Mapping) else {}
    found: dict[str, Costs] = {key: (None, sum(pair)) for key, pair in adds.items()}
    if isinstance(rows, list) and len(rows) == len(adds):
        for (key, pair), row in zip(adds.items(), rows, strict=True):
            if isinstance(row, list) and len(row) == 4 and row[2:] == pair and is_count(row[1]):
                found[key] = (row[1], sum(pair))
    if len(keys) == 1 and is_count(largest := facts.get("parameters")):
        (key,) = keys
        found[key] = (largest, found.get(key, (None, None))[1])
    return found


def training_images(facts: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """How many images a trial sees in an epoch, as far as the facts say."""
    data = config.get("data")
    each = data.get("examples_per_class") if isinstance(data, Mapping) else None
    if each is None:
        return facts.get("train")
    classes = facts.get("num_classes")
    return each * classes if is_count(each) and is_count(classes) else None


def trial_multiply_adds(facts: Mapping[str, Any], config: Mapping[str, Any], epochs: int) -> float | None:
    """Forward multiply-adds of a trial's training images; None where the plan did not work them out.

    Args:
        facts: of the plan; whatever a journal holds.
        epochs: that the trial trained.
    """
    known, images = facts.get(MULTIPLY_ADDS), training_images(facts, config)
    found = known.get(key_of(config)) if isinstance(known, Mapping) else None
    if not _is_pair(found) or not is_count(images):
        return None
    each, once = found
    return float(each * epochs + once) * float(images)


def _of_network(group: str, spec: Any) -> Any:
    """A spec without the arguments of which the network knows nothing."""
    if not isinstance(spec, Mapping):
        return spec
    return {name: value for name, value in spec.items() if f"{group}.{name}" not in SEARCHABLE_ARGUMENTS}


def _is_pair(pair: object) -> TypeGuard[Sequence[int]]:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_count, pair))


def is_count(number: object) -> TypeGuard[int]:
    """Whether what a record holds can be a number of things."""
    return type(number) is int and 0 <= number < LONGEST_COUNT
