"""Configurations that are tried on the driver before a sweep starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.config.plan import SweepPlan, trial_config
from orchestrator.space import Parameter, Space

EVERY_TRIAL = "every trial"  # the label of the configuration before any searched value
MAX_PROBES = 64  # configurations that are tried on the driver


def probes(made: SweepPlan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Configurations that show every choice and both ends of every range once, each with a label; at most MAX_PROBES."""
    seen: list[Mapping[str, Any]] = []
    for params in [{}, *(p for parameter in made.space.parameters for p in _showing(made.space, parameter))]:
        if params in seen or len(seen) >= MAX_PROBES:
            continue
        seen.append(params)
        yield ", ".join(f"{key}={value}" for key, value in params.items()) or EVERY_TRIAL, trial_config(made, params)


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
