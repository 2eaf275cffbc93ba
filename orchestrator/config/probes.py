"""Configurations that are tried on the driver before a sweep starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any

from orchestrator.base.groups import GROUPS
from orchestrator.config.claims import decode_claims
from orchestrator.config.claims_of_sweep import networks
from orchestrator.config.measured import OF_NETWORK
from orchestrator.config.plan import SweepPlan, trial_config
from orchestrator.space import Parameter, Space

from .joint import Joint

EVERY_TRIAL = "every trial"  # the label of the configuration before any searched value
BUDGET_S = 10.0  # seconds; how long configurations are tried before a launch


def probes(made: SweepPlan, joint: Joint) -> list[tuple[str, dict[str, Any]]]:
    """Configurations to try, each once and with a label, in the order of their use.

    Where the defaults of other settings do not go with a value, `joint` sets those of a trial that has it.

    First one with nothing searched, then every choice and both ends of every range alone, then the choices in pairs, and every
    penalty with weight decay.
    """
    singles = [params for parameter in made.space.parameters for params in _showing(made.space, parameter)]
    found: dict[str, Mapping[str, Any]] = {}
    for params in [{}, *singles, *_pairs(made.space), *_penalties_beside_decay(made.space)]:
        found.setdefault(_label(params), params)
    return [(label, trial_config(made, joint.completed(params))) for label, params in found.items()]


def untried(labels: list[str], tried: int) -> str | None:
    """What the plan says of the configurations for which there was no time; None where all were tried."""
    left = len(labels) - tried
    if left <= 0:
        return None
    return f"{left:,} of {len(labels):,} combinations were not tried beforehand (after {BUDGET_S:g} s), from {labels[tried]} on"


def claimed_networks(made: SweepPlan) -> list[tuple[str, dict[str, Any]]]:
    """A configuration of each network of the sweep, with its label, where a claim is about what networks cost."""
    if not any(measure.metric in OF_NETWORK for claim in decode_claims(made.claims) for measure in claim.measures()):
        return []
    return [(_label(params), trial_config(made, params)) for params in networks(made)]


def _label(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in params.items()) or EVERY_TRIAL


def _pairs(space: Space) -> Iterator[dict[str, Any]]:
    """Every two choices of different groups together. Ranges are left to the singles: their number would grow without end."""
    groups = [parameter for parameter in space.parameters if parameter.key in GROUPS and not parameter.conditions]
    for one, other in combinations(groups, 2):
        for first in one.domain.ends():
            for second in other.domain.ends():
                yield {one.key: first, other.key: second}


def _penalties_beside_decay(space: Space) -> Iterator[dict[str, Any]]:
    """Every penalty and optimizer with the ends of weight decay: some would penalize squares twice."""
    always = {parameter.key: parameter for parameter in space.parameters if not parameter.conditions}
    if "penalty" not in always:
        return
    groups = [always[key] for key in ("optimizer", "penalty") if key in always]
    for decay in (parameter for parameter in space.parameters if parameter.key == "optimizer.weight_decay"):
        for params in _showing(space, decay):
            free = [group for group in groups if group.key not in params]
            for values in product(*(group.domain.ends() for group in free)):
                yield {**params, **{group.key: value for group, value in zip(free, values, strict=True)}}


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
