"""What a journal may hold as a trial's configuration and as a plan, before anything is made of it: names, types and shapes.

Values beyond their type (bounds, targets, arguments) are checked by what uses them, as for a launch.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_type_hints

from orchestrator.base.decode import COUNT, DecodeError, Fits, check, read_json
from orchestrator.base.groups import GROUPS
from orchestrator.base.settings import PRETRAINED_FILES, ROOT_KEYS, TRIAL_KEYS, Settings

NEEDED = tuple(name for name, key in ROOT_KEYS.items() if key.since_first)
"""Root keys that every version has recorded with a trial."""

Spec = Annotated[
    Any,
    Fits(
        lambda value: isinstance(value, Mapping) and (not value or isinstance(value.get("_target_"), str)),
        "a mapping with a _target_, or an empty one",
    ),
]


class PretrainedFile(TypedDict):
    """Where the weights are that a value of `pretrained` or `ticket` stands for.

    `trial` is the whole name of the trial that kept them; `seed` that from which the initial weights of a ticket follow;
    `other_classes` whether that trial told other classes of the same data apart, so that its classifier is of no use;
    `pruned` whether that trial was pruned itself, so that its zeros are its mask.
    """

    path: str
    sha256: Annotated[str, Fits(lambda value: isinstance(value, str) and len(value) == 64, "a SHA-256")]
    trial: NotRequired[str]
    other_classes: NotRequired[bool]
    seed: NotRequired[Annotated[int, COUNT]]
    pruned: NotRequired[bool]


class _Choice(TypedDict):
    kind: Literal["choice"]
    values: Sequence[Any]


class _Range(TypedDict):
    kind: Literal["range"]
    start: float
    stop: float
    step: NotRequired[float]


class _Interval(TypedDict):
    kind: Literal["interval"]
    low: float
    high: float
    log: NotRequired[bool]
    integer: NotRequired[bool]


_DOMAINS: Mapping[object, Any] = {"choice": _Choice, "range": _Range, "interval": _Interval}


class _Condition(TypedDict):
    key: str
    values: Sequence[Any]


class _Parameter(TypedDict):
    key: str
    domain: Mapping[str, Any]
    conditions: Sequence[_Condition]


class _Plan(TypedDict):
    settings: Mapping[str, Any]
    base: Mapping[str, Any]
    choices: Mapping[str, Mapping[str, Spec]]
    space: Sequence[_Parameter]
    sampler: NotRequired[Spec]
    scheduler: NotRequired[Spec]
    tracking: NotRequired[Spec]
    cluster: NotRequired[Spec]
    facts: NotRequired[Mapping[str, Any]]
    notes: NotRequired[Sequence[str]]
    claims: NotRequired[Sequence[Mapping[str, Any]]]
    rules: NotRequired[Annotated[int, COUNT]]


def check_config(config: Any, at: str = "config", needed: Collection[str] = NEEDED) -> None:
    """Refuses what is no trial's configuration.

    Raises:
        DecodeError: a root key or group has another type, or one that every version records is missing.
    """
    check(config, Mapping[str, Any], at)
    for name in needed:
        if name not in config:
            raise DecodeError(f"{at} lacks {name}")
    _check_root_keys({name: value for name, value in config.items() if name in TRIAL_KEYS}, at)
    for group in GROUPS:
        check(config.get(group, {}), Spec, f"{at}.{group}")
    check(config.get("choices", {}), Mapping[str, str], f"{at}.choices")
    check(config.get("import_paths", []), Sequence[str], f"{at}.import_paths")
    check(config.get("data_entry"), str | None, f"{at}.data_entry")
    check(config.get(PRETRAINED_FILES, {}), Mapping[str, PretrainedFile], f"{at}.{PRETRAINED_FILES}")


def read_plan(text: str) -> dict[str, Any]:
    """The plan in a JSON text, as plain data.

    Raises:
        DecodeError: it is none.
    """
    plan: dict[str, Any] = read_json(text)
    check(plan, _Plan, "plan")
    check(plan.get("tracking", {}).get("uri"), str | None, "plan.tracking.uri")
    _check_root_keys(plan["settings"], "plan.settings")
    check_config(plan["base"], "plan.base")
    for place, parameter in enumerate(plan["space"]):
        at, kind = f"plan.space[{place}].domain", parameter["domain"].get("kind")
        if not isinstance(kind, str) or kind not in _DOMAINS:
            raise DecodeError(f"{at}.kind must be one of {', '.join(map(str, _DOMAINS))}, got {kind!r:.60}")
        schema = _DOMAINS[kind]
        check(parameter["domain"], schema, at)
        if parameter["key"] in GROUPS and kind == "choice":
            there = plan["choices"].get(parameter["key"], {})
            if missing := [value for value in parameter["domain"]["values"] if value not in list(there)]:
                raise DecodeError(f"plan.choices.{parameter['key']} lacks {missing[0]!r:.60}, which is searched")
        if unknown := sorted(set(parameter["domain"]) - set(get_type_hints(schema))):
            raise DecodeError(f"{at} holds {unknown[0]!r:.60}, which no {kind} has")
    return plan


@functools.cache
def _hints() -> Mapping[str, Any]:
    return get_type_hints(Settings)


def _check_root_keys(values: Mapping[str, Any], at: str) -> None:
    for name, value in values.items():
        if name in _hints():
            check(value, _hints()[name], f"{at}.{name}")
