"""What a resume may change of a sweep, and what it may not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.base.build import with_current_arguments
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.groups import GROUPS, PARTS, PLACES, RESUMABLE_PARTS
from orchestrator.base.settings import FREE_KEYS, KEPT_KEYS, PLACE_KEYS, PRETRAINED_FILES, ROOT_KEYS
from orchestrator.base.upgrades import current_config, with_defaults
from orchestrator.config.plan import SweepPlan

_PLACES = frozenset([*PLACE_KEYS, *(f"{group}.{name}" for group, names in PLACES.items() for name in names)])
"""Dotted keys of a trial's configuration that may change."""


def merged(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The overrides of the start with those of the resume; of the same key the later one.

    Where a sampler, scheduler or cluster is named anew, the settings of the one before go with it.
    """
    keys = {_key(override) for override in now}
    parts = keys & set(PARTS)
    kept = [o for o in before if _key(o) not in keys and not ("." in _key(o) and _key(o).split(".")[0] in parts)]
    return [*kept, *now]


def checked(
    old: SweepPlan, new: SweepPlan, *, suggested: int, more: int | None = None, trials: int | None = None
) -> tuple[SweepPlan, dict[str, Any]]:
    """The plan of a resumed sweep, and its changes: key -> [before, now].

    Args:
        old: the plan in force before.
        new: the plan that the merged overrides give.
        suggested: how many configurations there are already.
        more: so many configurations besides those of before.
        trials: so many configurations in all, where the user says so.

    Raises:
        ConfigError: something differs that may not; lists everything that does.
    """
    new = _with_files_of(old, replace(new, rules=old.rules, claims=old.claims))
    if problems := list(_refused(old, new)):
        raise ConfigError(problems)
    total = _trials(suggested, old, new, more, trials)
    new = replace(new, settings={**new.settings, **{key: old.settings[key] for key in KEPT_KEYS}, "trials": total})
    return new, dict(_changes(old, new))


def placed(plan: SweepPlan, config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's recorded configuration, in today's form and with the places of the plan in force."""
    config = current_config(config)
    now = {key: plan.base[key] for key in PLACE_KEYS if key in config and key in plan.base}
    for group, names in PLACES.items():
        before, there = config[group], plan.base[group]
        if group not in plan.space.keys and before.get("_target_") == there.get("_target_"):
            now[group] = {**before, **{name: there[name] for name in names if name in before and name in there}}
        elif group == "data":
            now.pop("data_entry", None)
    return {**config, **now}


def _trials(suggested: int, old: SweepPlan, new: SweepPlan, more: int | None, trials: int | None) -> int:
    """How many configurations there are to be in all. A finite space may hold fewer: the sweep ends when it is used up."""
    before = int(old.settings["trials"])
    if more is not None:
        return before + more
    if trials is not None:
        return max(trials, suggested)  # those that there are go on
    sampler = new.part("sampler")
    if str(new.sampler["_target_"]).endswith(".Grid") and (new.space != old.space or new.sampler != old.sampler):
        return suggested + int(sampler.limit(new.space, before))
    return before


def _refused(old: SweepPlan, new: SweepPlan) -> Iterator[Problem]:
    searched = {*old.space.keys, *new.space.keys}
    why = "may not change when a sweep is resumed; launch a new one for it"
    for key in old.settings:
        if key not in ROOT_KEYS and key not in old.base:
            continue  # among the changes
        if key not in ROOT_KEYS:
            yield _gone(key, old.settings[key])
        elif key not in (*FREE_KEYS, *KEPT_KEYS, *searched) and old.settings[key] != new.settings.get(key):
            yield _problem(key, old.settings[key], new.settings.get(key), why)
    for part in PARTS:
        if part not in RESUMABLE_PARTS and getattr(old, part) != getattr(new, part):
            yield _problem(part, dict(getattr(old, part)), dict(getattr(new, part)), why)
    before, now = dict(_fixed(_aligned(old, new), searched)), dict(_fixed(new, searched))
    for key in dict.fromkeys([*before, *now]):
        of_one_choice_alone = "(" in key and not (key in before and key in now)
        if before.get(key) != now.get(key) and not of_one_choice_alone:
            gone = key in before and key not in now and key.count(".") == 1
            yield _gone(key, before[key]) if gone else _problem(_plain(key), before.get(key), now.get(key), why)
    yield from _other_weights(old, new)
    if old.facts.get("fingerprint") != new.facts.get("fingerprint"):
        yield Problem(
            "data", "the images, labels or split are not those that the sweep began with; put them back as they were"
        )


def _with_files_of(old: SweepPlan, new: SweepPlan) -> SweepPlan:
    """The new plan with the files of weights that unfinished trials began with, too."""
    files = {**old.base.get(PRETRAINED_FILES, {}), **new.base.get(PRETRAINED_FILES, {})}
    return replace(new, base={**new.base, PRETRAINED_FILES: files}) if files else new


def _other_weights(old: SweepPlan, new: SweepPlan) -> Iterator[Problem]:
    """Values of `pretrained` that stand for another file than before."""
    now = new.base.get(PRETRAINED_FILES, {})
    for key, before in old.base.get(PRETRAINED_FILES, {}).items():
        if now[key]["sha256"] != before["sha256"]:
            yield Problem(
                "pretrained", f"{now[key]['path']} is not the file with which the sweep began; put that back", key
            )


def _problem(key: str, before: object, now: object, why: str) -> Problem:
    return Problem(key, f"{why} (was {before}, would be {now})")


def _gone(key: str, before: object) -> Problem:
    why = "this version has no such key; resume the sweep with the version that launched it, or launch a new one"
    return Problem(_plain(key), why, before)


def _aligned(old: SweepPlan, new: SweepPlan) -> SweepPlan:
    """The old plan with the arguments that the new one has besides, at their defaults: a version may have added them."""

    def aligned(spec: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
        spec = with_current_arguments(spec)
        added = now.keys() - spec.keys()
        same = spec.get("_target_") == now.get("_target_")
        return with_defaults(spec, added) if same and added else spec

    base = {group: aligned(old.base[group], new.base[group]) for group in GROUPS}
    choices = {
        group: {name: aligned(spec, new.choices.get(group, {}).get(name, {})) for name, spec in specs.items()}
        for group, specs in old.choices.items()
    }
    return replace(old, base={**old.base, **base}, choices=choices)


def _fixed(plan: SweepPlan, searched: set[str]) -> Iterator[tuple[str, Any]]:
    """(key, value) of everything in a trial's configuration that neither search decides.

    In a searched group the keys are those of each choice: `optimizer.(sgd).momentum`.
    """
    for group in plan.base:
        if group in plan.settings or group in ("choices", PRETRAINED_FILES):
            continue
        tree = plan.base[group]
        if group in searched:
            choices = plan.choices.get(group) or {plan.base["choices"][group]: tree}
            tree = {f"({choice})": spec for choice, spec in choices.items()}
        for key, value in _leaves({group: tree}):
            if _plain(key) not in searched and _plain(key) not in _PLACES:
                yield key, value


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if not part.startswith("("))


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _changes(old: SweepPlan, new: SweepPlan) -> Iterator[tuple[str, Any]]:
    for key in FREE_KEYS:
        if old.settings[key] != new.settings[key]:
            yield key, [old.settings[key], new.settings[key]]
    for key in old.settings:
        if key not in ROOT_KEYS:  # of an earlier version, about how the sweep ran
            yield key, [old.settings[key], None]
    for part in RESUMABLE_PARTS:
        if getattr(old, part) != getattr(new, part):
            yield part, [dict(getattr(old, part)), dict(getattr(new, part))]
    if old.space != new.space:
        yield "space", [[p.describe() for p in plan.space.parameters] for plan in (old, new)]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+")
