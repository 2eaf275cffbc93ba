"""The command lines that do a trial again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.groups import GROUPS, PARTS
from orchestrator.base.recorded import read_plan
from orchestrator.base.settings import SWEEP_KEYS
from orchestrator.journal.events import SweepOpened, SweepResumed
from orchestrator.journal.record import TrialRecord

OF_THE_SWEEP = {"search", *PARTS, *SWEEP_KEYS}
"""Keys and groups that say how a sweep runs, and nothing about one trial."""


DECIDED = ("precision", "gpus_per_trial")
"""Root keys that a sweep may leave open, and decides when it is launched: its trials have them in their configuration."""


@dataclass(frozen=True)
class Request:
    """What a user typed to launch a sweep; `cwd` is where, "" where it is not known."""

    overrides: Sequence[str] = ()
    config_dir: str | None = None
    config_name: str = "launch"
    cwd: str = ""


def request_of(begun_by: SweepOpened | SweepResumed) -> Request | None:
    """What the sweep was launched or resumed with; None where it was not from the command line."""
    if request := begun_by.request:
        return Request(
            overrides=tuple(request.get("overrides") or ()),
            config_dir=request.get("config_dir"),
            config_name=request.get("config_name") or "launch",
            cwd=request.get("cwd") or "",
        )
    return _parsed(str(begun_by.environment.get("command") or "")) if isinstance(begun_by, SweepOpened) else None


def _parsed(command: str) -> Request | None:
    """The same from the words of a command."""
    try:
        words = shlex.split(command)
    except ValueError:  # quotes that are not closed: somebody else wrote it
        return None
    if words[:2] != ["orchestrator", "launch"]:
        return None
    options: dict[str, str] = {}
    overrides = []
    rest = iter(words[2:])
    for text in rest:
        option, equals, value = text.partition("=")
        if option in ("--config-dir", "--config-name"):
            options[option] = value if equals else next(rest, "")
        elif not text.startswith("--"):
            overrides.append(text)
    return Request(tuple(overrides), options.get("--config-dir"), options.get("--config-name", "launch"))


def train_command(request: Request, trial: TrialRecord, searched: Sequence[str]) -> str:
    """`orchestrator train` with what the user typed, and the searched keys fixed as in the trial.

    Args:
        searched: the keys of the search space.
    """
    left_out = {*searched, *trial.params, *OF_THE_SWEEP}
    kept = [text for text in request.overrides if _concerns(text, left_out, trial.config)]
    if trial.repeat:
        kept = [text for text in kept if _key(text) != "seed"]
    decided = {
        key: trial.config[key] for key in DECIDED if key not in trial.params and trial.config.get(key) is not None
    }
    kept = [text for text in kept if _key(text) not in decided]
    fixed = [f"{key}={_typed(value)}" for key, value in {**trial.params, **decided}.items()]
    if trial.repeat and "seed" not in trial.params:
        fixed.append(f"seed={trial.config['seed']}")
    folder = ["--config-dir", str(Path(request.cwd, request.config_dir))] if request.config_dir else []
    root = ["--config-name", request.config_name] if request.config_name != "launch" else []
    return shlex.join(["orchestrator", "train", *folder, *root, *kept, *fixed])


def searched_keys(plan: str) -> list[str]:
    """The keys of the search space in a plan, as it lies in the journal."""
    return list(dict.fromkeys(parameter["key"] for parameter in read_plan(plan)["space"])) if plan else []


def _concerns(text: str, left_out: set[str], config: Mapping[str, Any]) -> bool:
    """Whether an override of the sweep is about this trial: one below a searched group goes to the choices that have it."""
    group, dot, name = _key(text).partition(".")
    if _key(text) in left_out or group in OF_THE_SWEEP:
        return False
    return not (dot and group in GROUPS and group in left_out) or name in config[group]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+")


def _typed(value: object) -> str:
    """A value as Hydra's grammar reads it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:.17g}" if isinstance(value, float) and value.is_integer() else str(value)
