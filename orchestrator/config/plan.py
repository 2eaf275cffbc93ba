"""What a sweep is to do, as plain data: made by config.py, read by the driver, which needs neither Hydra nor torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from orchestrator.base import yaml_files
from orchestrator.base.build import build
from orchestrator.base.costs import training_images
from orchestrator.base.errors import NotReadyError
from orchestrator.base.groups import GROUPS, PARTS, SEARCHES
from orchestrator.base.recorded import read_plan
from orchestrator.base.rights import Rights, granted, in_force
from orchestrator.base.rules import FIRST_RULES
from orchestrator.base.settings import CONF, KEPT_KEYS, PLACE_KEYS, ROOT_KEYS, Settings, launch_defaults
from orchestrator.base.text import short, table, word
from orchestrator.base.upgrades import current_plan
from orchestrator.space import Space


@dataclass(frozen=True)
class SweepPlan:
    """Everything that was decided and checked before anything is created.

    Args:
        settings: the root keys; `trials` is what will run (a grid's points, one where nothing is searched).
        base: a trial's configuration before the searched values are set.
        choices: group -> choice -> its spec, for the groups that are searched.
        sampler, scheduler, tracking, cluster: specs of the dataclasses in orchestrator.config.settings.
        facts: what the check on the driver found (parameters of the largest model, ...).
        notes: sentences for the user.
        claims: what the experiment claims of its results, as its file says; see `orchestrator.config.claims`.
        rules: by which what the configuration leaves open is derived (orchestrator.base.rules); the first ones where
            an earlier version recorded none.
        rights: what the user allowed for it, on this command line or in this program. They are not recorded: a plan that is
            read back has none.
    """

    settings: Mapping[str, Any]
    base: Mapping[str, Any]
    choices: Mapping[str, Mapping[str, Mapping[str, Any]]]
    space: Space
    sampler: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    tracking: Mapping[str, Any]
    cluster: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    claims: tuple[Mapping[str, Any], ...] = ()
    rules: int = FIRST_RULES
    rights: Rights = field(default=Rights(), compare=False)

    @property
    def root(self) -> Settings:
        """The root keys, typed."""
        return Settings(**{key: self.settings[key] for key in ROOT_KEYS})

    def part(self, group: str) -> Any:
        """The settings of `sampler`, `scheduler`, `tracking` or `cluster` as their dataclass.

        A sampler or scheduler is as it was under the rules that the sweep began with.
        """
        with granted(in_force() | self.rights):
            built = build(getattr(self, group))
        return built.under(self.rules) if hasattr(built, "under") else built

    def to_json(self) -> str:
        plain = {name: getattr(self, name) for name in _RECORDED} | {"space": self.space.encode()}
        if not self.claims:
            del plain["claims"]
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> SweepPlan:
        """The plan that `to_json` wrote, in this version or an earlier one; without rights.

        Raises:
            NotReadyError: it is none.
        """
        try:
            plain = current_plan(read_plan(text))
            space = Space.decode(plain["space"])
        except ValueError as error:
            raise NotReadyError(f"the plan of the sweep is damaged: {error}") from error
        known = {name: plain[name] for name in _RECORDED if name in plain}
        lists = {name: tuple(plain.get(name, ())) for name in ("notes", "claims")}
        return SweepPlan(**known | {"space": space} | lists)


_RECORDED = tuple(f.name for f in fields(SweepPlan) if f.name != "rights")


def trial_config(plan: SweepPlan, params: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the trial with these searched values: whole choices swapped in, then single values set."""
    config: dict[str, Any] = copy.deepcopy(dict(plan.base))
    for key, value in params.items():
        if key in GROUPS:
            config["choices"][key] = value
            config[key] = copy.deepcopy(plan.choices[key][value])
    for key, value in params.items():
        if key not in GROUPS:
            set_key(config, key, value)
    return config


def set_key(config: dict[str, Any], key: str, value: object) -> None:
    """Set the value of a dotted key in place."""
    *path, last = key.split(".")
    for part in path:
        config = config[part]
    config[last] = value


def get_key(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, None where it is not there."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def describe_plan(plan: SweepPlan, given: Sequence[str] = ()) -> list[str]:
    """What would run, line by line.

    Args:
        given: the overrides, all of which are shown, also where they say what is so anyway.
    """
    settings, sampler, scheduler = plan.root, plan.part("sampler"), plan.part("scheduler")
    count = plan.space.count(getattr(sampler, "points", None))
    epochs = max(domain_max(plan.space, "epochs"), settings.epochs)
    rungs = scheduler.rungs(epochs)
    chosen = plan.base["choices"]
    searched = set(plan.space.keys)
    typed = _typed(given)
    fixed = [
        f"{group}={name}"
        for group, name in chosen.items()
        if group not in searched and (name not in ("default", "none") or group in typed)
    ]
    fixed += [f"{part}={typed[part]}" for part in (*PARTS, *SEARCHES) if part in typed]
    lines = [
        f"sweep           {settings.name or '(named by time)'}",
        f"fixed           {' '.join(fixed)}",
        *_block("values", _lines_of(_values(plan, typed))),
        *_block("search space", [p.describe() for p in plan.space.parameters] or ["nothing"]),
        f"configurations  {'continuous' if count is None else f'{count:,}'}",
        f"trials          {settings.trials:,} ({_kind(sampler)} sampler, seed {settings.seed}){_seeds(settings)}",
        f"epochs          {epochs:,} a trial at most, {epochs * settings.trials * settings.repeat:,} in all",
        f"rungs           {', '.join(map(str, rungs)) or 'none'} ({_kind(scheduler)} scheduler)",
    ]
    if (parameters := plan.facts.get("parameters")) is not None:
        lines.append(f"parameters      {parameters:,} in the largest model")
    lines += _block("claims", [f"{claim['id']} ({claim['lecture']}): {claim['says']}" for claim in plan.claims])
    lines += _block("cost", _costs(plan, epochs))
    at_a_time = settings.max_concurrent or plan.facts.get("fits")
    lines += [
        f"resources       {settings.cpus_per_trial:g} CPU, {_gpus(settings)} a trial",
        f"at a time       {at_a_time if at_a_time is not None else 'as many as the cluster has room for'}",
        f"objective       {plan.base['metric']} ({plan.base['mode']})",
        *_block("notes", list(plan.notes)),
    ]
    return lines


def _typed(given: Sequence[str]) -> dict[str, str]:
    """Key -> value, as they were typed."""
    pairs = (text.lstrip("+").partition("=") for text in given)
    return {key: value for key, equals, value in pairs if equals}


def _values(plan: SweepPlan, typed: Mapping[str, str]) -> list[str]:
    """`key=value` of what was typed, and of what an experiment, a search or the root file sets otherwise than the catalogue."""
    searched = set(plan.space.keys)
    defaults = {key: value for key, value in launch_defaults().items() if key in ROOT_KEYS}
    values = {k: plan.settings[k] for k, v in defaults.items() if plan.settings.get(k) != v and k not in _TOLD_ANYWAY}
    for group in (*GROUPS, *PARTS):
        spec, own = plan.base[group] if group in GROUPS else getattr(plan, group), _of_catalogue(plan, group)
        values |= {f"{group}.{k}": v for k, v in spec.items() if own is not None and k in own and own[k] != v}
    shown = {key: word(value) for key, value in values.items() if key not in searched}
    others = {key: value for key, value in typed.items() if key not in (*GROUPS, *PARTS, *SEARCHES, *searched)}
    return [f"{key}={value}" for key, value in {**shown, **others}.items()]


_TOLD_ANYWAY = {*KEPT_KEYS, *PLACE_KEYS, "trials", "mode"}
"""What has a line of its own, or is worked out from what was given; typed, they are told too."""


def _of_catalogue(plan: SweepPlan, group: str) -> Mapping[str, Any] | None:
    """What the file of the chosen choice sets; None where it is not one of ours."""
    if group not in GROUPS:
        return None
    path = CONF / group / f"{plan.base['choices'][group]}.yaml"
    return yaml_files.read(path) if path.is_file() else None


def _lines_of(words: Sequence[str], width: int = 100) -> list[str]:
    """The words on lines of about so many characters."""
    lines: list[str] = []
    for one in words:
        if lines and len(lines[-1]) + 1 + len(one) <= width:
            lines[-1] += f" {one}"
        else:
            lines.append(one)
    return lines


COSTS_SHOWN = 12


def _costs(plan: SweepPlan, epochs: int) -> list[str]:
    """What a trial of each architecture costs, the cheapest first: multiply-adds of all images and epochs, forward.

    Of each the cheapest and the dearest configuration that was tried are shown where there are too many.
    """
    images = training_images(plan.facts, plan.base) or 0
    # a norm or activation costs no multiply-adds: of equal ones of a model the first stands for all
    different = {
        (name.partition(",")[0], each, once): (name, parameters, each * images * epochs + once * images, each + once)
        for name, parameters, each, once in reversed(plan.facts.get("costs", []))
    }
    costs = sorted(different.values(), key=lambda cost: (cost[2], cost[0]))
    if not costs:
        return []
    least = max(costs[0][2], 1)
    shown = costs if len(costs) <= COSTS_SHOWN else [*costs[: COSTS_SHOWN // 2], *costs[-COSTS_SHOWN // 2 :]]
    rows = [
        [
            name,
            f"{short(parameters)} parameters",
            f"{short(adds)} multiply-adds an image",
            f"{short(trial)} a trial",
            f"x {short(trial / least)}",
        ]
        for name, parameters, trial, adds in shown
    ]
    lines = table(rows[0], rows[1:])
    if len(shown) < len(costs):
        lines.insert(COSTS_SHOWN // 2, f"... {len(costs) - len(shown)} between ...")
    total = f"{short(images * epochs)} images a trial ({images:,} in each of {epochs:,} epochs)"
    return [*lines, f"{total}; a training step costs about three times its forward multiply-adds"]


def domain_max(space: Space, key: str) -> int:
    """The largest value that the search gives `key`, 0 where it is not searched."""
    return max((int(value) for p in space.parameters if p.key == key for value in p.domain.ends()), default=0)


def _gpus(settings: Settings) -> str:
    if settings.gpus_per_trial is None:
        return "1 GPU where there are any"
    return f"{settings.gpus_per_trial:g} GPU"


def _seeds(settings: Settings) -> str:
    return f", each with {settings.repeat} seeds" if settings.repeat > 1 else ""


def _kind(part: object) -> str:
    return type(part).__name__.lower().removesuffix("scheduler")


def _block(title: str, rows: list[str]) -> list[str]:
    return [f"{title if place == 0 else '':<16}{row}" for place, row in enumerate(rows)]
