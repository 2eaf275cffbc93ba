"""How a sweep's runs are spelled in MLflow: names, parameters, steps, data set and source, by the rules that it began with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.analysis.naming import trial_name
from orchestrator.base.groups import GROUPS, SHOWN_GROUPS
from orchestrator.base.records import State
from orchestrator.base.rules import SHOWN_RULES, rules_of
from orchestrator.base.secrets import redact
from orchestrator.base.settings import SHOWN_KEYS
from orchestrator.journal.events import SweepOpened
from orchestrator.stores.runs import (
    MAX_DATASET_NAME_LENGTH,
    MAX_DIGEST_LENGTH,
    MAX_PARAM_LENGTH,
    MAX_TAG_LENGTH,
    Dataset,
    is_finite,
    safe_name,
    text_of,
)

MAX_PARAMS = 20
"""So many parameters a run had before `SHOWN_RULES`."""

NONE = "-"
"""The value of a parameter that a trial does not have, and another one has."""

CONTEXT = "training, validation and test"


class Spelling:
    """What the runs of one sweep are called, and which parameters they have.

    Args:
        opened: what the sweep began with.
    """

    def __init__(self, opened: SweepOpened) -> None:
        self.current = rules_of(opened.plan) >= SHOWN_RULES
        self._searched: dict[str, None] = {}
        self._keys: dict[str, None] = {}
        plan = plan_of(opened)
        self._logarithmic = log_keys(plan["space"])
        self.dataset = dataset_of(plan) if self.current else None
        self.source = source_of(opened.environment) if self.current else {}
        self._learn(plan)

    def learn(self, plan: str) -> list[str]:
        """Takes the plan of a resume; returns the parameters that no trial could have before."""
        return self._learn(json.loads(plan)) if plan and self.current else []

    def _learn(self, plan: Mapping[str, Any]) -> list[str]:
        before = set(self._keys)
        self._searched |= dict.fromkeys(entry["key"] for entry in plan["space"])
        self._keys |= dict.fromkeys(map(safe_name, _all_keys(plan)))
        return [key for key in self._keys if key not in before]

    def name(self, uid: str, index: int, searched: Mapping[str, Any]) -> str:
        """The name of a trial's run while it is under way, or where it completed."""
        return trial_name(index, searched) if self.current else f"{uid}/{index}"

    def name_at_end(self, name: str, state: State) -> str:
        """The name of a run that has ended: behind its number it says how, unless the trial completed."""
        if not self.current or state is State.COMPLETED:
            return name
        number, _, values = name.partition(" ")
        return f"{number} [{state.value}] {values}".rstrip()

    def params(self, searched: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
        """The parameters of a trial: the searched ones first, then the others, then those that only other trials have."""
        if not self.current:
            return few_params(searched, config)
        found = {safe_name(key): text_of(value)[:MAX_PARAM_LENGTH] for key, value in searched.items()}
        for key, value in all_entries(config):
            found.setdefault(safe_name(key), text_of(value)[:MAX_PARAM_LENGTH])
        for key in self._keys:
            found.setdefault(key, NONE)
        return found

    def logarithms(self, searched: Mapping[str, Any]) -> dict[str, float]:
        """What was searched on a logarithmic scale, as metrics: the axes of MLflow's charts of parameters are linear."""
        if not self.current:
            return {}
        values = {key: value for key, value in searched.items() if key in self._logarithmic and is_finite(value)}
        return {log_name(key): math.log10(value) for key, value in values.items() if value > 0}

    def sweep_params(self, config: Mapping[str, Any]) -> dict[str, str]:
        """What all trials of the sweep share."""
        if not self.current:
            return {key: value for key, value in few_params({}, config).items() if key not in self._searched}
        shared = all_entries(config)
        return {
            safe_name(key): text_of(value)[:MAX_PARAM_LENGTH]
            for key, value in shared
            if key not in self._searched and key.partition(".")[0] not in self._searched
        }

    def step(self, epoch: int) -> int:
        """The step of a single value that belongs to an epoch: MLflow draws bars of what stands at step 0."""
        return 0 if self.current else epoch


def few_params(searched: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """Before `SHOWN_RULES`: searched keys, then the fixed settings that tell trials apart, up to `MAX_PARAMS` in all.

    First the names of the choices, then the root keys, then the choices' own arguments in the order of the groups.
    """
    params = {safe_name(key): text_of(value)[:MAX_PARAM_LENGTH] for key, value in searched.items()}
    for key, value in _entries(config, SHOWN_GROUPS):
        if key in GROUPS and value in ("default", "none"):
            continue
        if len(params) >= MAX_PARAMS:
            break
        params.setdefault(safe_name(key), text_of(value)[:MAX_PARAM_LENGTH])
    return params


def all_entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting of a configuration in the order in which it is shown."""
    return _entries(config, ALL_GROUPS)


ALL_GROUPS = (*SHOWN_GROUPS, *(group for group in GROUPS if group not in SHOWN_GROUPS))


def _entries(config: Mapping[str, Any], groups: Iterable[str]) -> Iterator[tuple[str, Any]]:
    choices = config.get("choices") or {}
    for group in GROUPS:
        if choices.get(group) is not None:
            yield group, choices[group]
    for key in SHOWN_KEYS:
        if config.get(key) is not None:
            yield key, config[key]
    for group in groups:
        spec = config.get(group)
        if isinstance(spec, Mapping):
            for name, value in spec.items():
                if name != "_target_":
                    yield f"{group}.{name}", value


def _all_keys(plan: Mapping[str, Any]) -> Iterator[str]:
    """The name of every parameter that a trial of this plan can have."""
    yield from (entry["key"] for entry in plan["space"])
    yield from (key for key, _ in all_entries(plan["base"]))
    for group, choices in plan.get("choices", {}).items():
        if group in GROUPS:
            for spec in choices.values():
                yield from (f"{group}.{name}" for name in spec if name != "_target_")


def plan_of(opened: SweepOpened) -> dict[str, Any]:
    """The plan that a sweep began with as plain data; of a sweep without one what stands beside it."""
    return json.loads(opened.plan) if opened.plan else {"space": opened.space, "base": opened.config}


def log_keys(space: Iterable[Mapping[str, Any]]) -> set[str]:
    """The keys that are searched on a logarithmic scale: of a plan's space, or of one that was written for people."""
    found = set()
    for entry in space:
        domain = entry["domain"]
        if domain.get("log") if isinstance(domain, Mapping) else re.search(r"\(log\b", str(domain)):
            found.add(str(entry["key"]))
    return found


def log_name(key: str) -> str:
    """The metric that is the logarithm of a searched key."""
    return safe_name(f"log10/{key}")


def dataset_of(plan: Mapping[str, Any]) -> Dataset | None:
    """The data set of a sweep as MLflow lists it; None where the plan does not say which one it found."""
    facts, spec = plan.get("facts") or {}, plan["base"].get("data") or {}
    if not isinstance(facts.get("fingerprint"), str):
        return None
    sizes = {split: facts[split] for split in ("train", "val", "test") if isinstance(facts.get(split), int)}
    image = [facts.get("in_channels"), *(facts.get("image_size") or ())]
    images = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, *image]}}
    labels = {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}
    schema = {"mlflow_tensorspec": {"features": json.dumps([images]), "targets": json.dumps([labels])}}
    profile = {"num_rows": sum(sizes.values()), **sizes, "num_classes": facts.get("num_classes")}
    split = {key: spec[key] for key in ("val_fraction", "split_seed") if key in spec}
    name = str((plan["base"].get("choices") or {}).get("data") or spec.get("_target_") or "data")
    return Dataset(
        name=name[:MAX_DATASET_NAME_LENGTH],
        digest=facts["fingerprint"][:MAX_DIGEST_LENGTH],
        source_type="orchestrator",
        source=redact(json.dumps(spec)),
        schema=json.dumps(schema),
        profile=json.dumps(profile | split),
        context=CONTEXT,
    )


def source_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """MLflow's tags of what made a run: the command, and the commit of the code."""
    command = environment.get("command") or ""
    words = command if isinstance(command, str) else " ".join(map(str, command))
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": (redact(words) or "orchestrator")[:MAX_TAG_LENGTH]}
    commit = re.search(r"([0-9a-f]{7,40})(-dirty)?$", str(environment.get("code") or ""))
    return tags | ({"mlflow.source.git.commit": commit[1]} if commit else {})
