"""The files of weights that a plan's trials begin with, found once, with their SHA-256."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.groups import OF_MODEL
from orchestrator.base.settings import PRETRAINED_FILES
from orchestrator.base.upgrades import differing_arguments
from orchestrator.config.plan import SweepPlan
from orchestrator.space import Choice, Space

if TYPE_CHECKING:
    from orchestrator.training.pretrained import KeptWeights

TENSORS_SHOWN = 4

FindTrial = Callable[[Path, str], "KeptWeights"]
"""(runs folder, `SWEEP/7`) -> the weights that the trial kept; raises ConfigError or NotReadyError."""


@dataclass(frozen=True)
class Found:
    """What became of a plan's weights.

    Args:
        plan: whose configurations say where their weights lie.
        complete: whether all are here.
        differing: value of `pretrained` -> what the trial that kept the weights had otherwise.
    """

    plan: SweepPlan
    complete: bool = True
    differing: Mapping[str, str] = field(default_factory=dict)


def with_weights(
    made: SweepPlan,
    problems: list[Problem],
    find_trial: FindTrial | None,
    *,
    fetch: bool,
    experiments: Collection[str] = (),
) -> Found:
    """The plan with its weights; what cannot be found is a problem.

    Args:
        experiments: those that there are; one begins with weights of another by naming a trial of its sweep.
        fetch: bring weights that are not here; otherwise a note says so.

    Raises:
        NotReadyError: a file is not there, or could not be downloaded.
    """
    files: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    differing: dict[str, str] = {}
    notes: list[str] = []
    complete = True
    for value, model in _asked(made):
        from orchestrator.training import pretrained

        if value in names and not pretrained.is_name(value):
            continue
        try:
            found = find_weights(made.root.runs_dir, value, model, find_trial, fetch=fetch)
            file = described(found, made.base["data"]) if found else {}
        except ConfigError as error:
            problems += [_not_found(problem, value, made.root.runs_dir, experiments) for problem in error.problems]
        except ValueError as error:
            problems.append(Problem("pretrained", str(error), value))
        else:
            if found is None:
                complete = False
                notes.append(f"pretrained={value} is not here: a launch brings it, and tries it on the model then")
                continue
            files[pretrained.key_of(found.trial or value, model)] = file
            names[value] = found.trial or value
            if differs := _differing(found, made):
                differing[found.trial or value] = differs
    if not files and complete:
        return Found(made)
    made = _named_in_full(made, names)
    base = {**made.base, PRETRAINED_FILES: {**made.base.get(PRETRAINED_FILES, {}), **files}}
    return Found(replace(made, base=base, notes=(*made.notes, *dict.fromkeys(notes))), complete, differing)


def _not_found(problem: Problem, value: str, runs_dir: str, experiments: Collection[str]) -> Problem:
    """The problem of a trial that is not there, with the experiment that makes it if there is one of that name."""
    sweep = value.partition("/")[0]
    if problem.value != sweep or sweep not in experiments:  # what is wrong is not that the sweep is missing
        return Problem("pretrained", problem.why, value)
    where = [] if Path(runs_dir) == Path("runs").absolute() else [f"runs_dir={runs_dir}"]
    command = shlex.join(["orchestrator", "launch", f"experiment={sweep}", *where])
    why = f"are weights of experiment={sweep}, of which there is no sweep in {runs_dir} yet"
    return Problem("pretrained", why, value, hint=f"run it first:  {command}")


def left_to_init(made: SweepPlan, left: Mapping[str, Sequence[str]], problems: list[Problem]) -> list[str]:
    """Notes on what `init` decides beside weights from a file; a search over it that decides nothing is a problem.

    Args:
        left: `VALUE MODEL` -> the names of the tensors that the file does not give, as far as it was tried.
    """
    searched = [key for key in made.space.keys if key == "init" or key.startswith("init.")]
    values = next((p.domain.ends() for p in made.space.parameters if p.key == "pretrained"), (made.base["pretrained"],))
    asked = list(_asked(made))
    known = {value: left[f"{value} {model}"] for value, model in asked if f"{value} {model}" in left}
    if not searched or not known:
        return []
    everything = len(left) == len(asked) and None not in values
    if everything and not any(left.values()):
        fixed = "init=default" if "init" in searched else f"~{searched[0]}"
        why = f"decides nothing: pretrained={', '.join(known)} gives all tensors of the network"
        hint = f"take it out of the search with {fixed}"
        problems.append(Problem(searched[0], why, hint=hint))
        return []
    return [
        f"pretrained={value}: init decides {_named(names) if names else 'nothing'}, the rest comes from the file"
        for value, names in known.items()
    ]


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:TENSORS_SHOWN])
    return f"{shown} and {len(names) - TENSORS_SHOWN} more" if len(names) > TENSORS_SHOWN else f"{shown} alone"


def find_weights(
    runs_dir: str, value: str, model: str, find_trial: FindTrial | None, *, fetch: bool = True
) -> KeptWeights | None:
    """The file that a value of `pretrained` stands for; see `training.pretrained.located`."""
    from orchestrator.training import pretrained

    def find(name: str) -> KeptWeights:
        assert find_trial is not None
        return find_trial(Path(runs_dir), name)

    return pretrained.located(value, model, Path.cwd(), find_trial=find if find_trial else None, fetch=fetch)


def described(found: KeptWeights, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a configuration says of a file of weights.

    Args:
        data: those of the trials that begin with them; None where these are the same.

    Raises:
        ValueError: it is too large to be weights.
        NotReadyError: it cannot be read.
    """
    from orchestrator.training import pretrained

    of_trial: dict[str, Any] = {"trial": found.trial} if found.trial else {}
    before = found.config.get("data") or {}
    if data and before.get("_target_") == data["_target_"] and before.get("classes") != data.get("classes"):
        of_trial["other_classes"] = True
    return {"path": str(found.path), "sha256": pretrained.digest(found.path), **of_trial}


def _named_in_full(made: SweepPlan, names: Mapping[str, str]) -> SweepPlan:
    """The plan with the whole names of trials: later, another sweep may be the newest of a short one."""
    value = made.base["pretrained"]
    full = names.get(value, value)
    parameters = []
    for parameter in made.space.parameters:
        if parameter.key == "pretrained":
            values = dict.fromkeys(names.get(str(each), each) for each in parameter.domain.ends())
            parameter = replace(parameter, domain=Choice(tuple(values)))
        parameters.append(parameter)
    return replace(
        made,
        settings={**made.settings, "pretrained": full},
        base={**made.base, "pretrained": full},
        space=Space(tuple(parameters)),
    )


def _asked(made: SweepPlan) -> Iterator[tuple[str, str]]:
    """Every value of `pretrained` that a trial can have, with every choice of model."""
    ends = {
        key: [end for p in made.space.parameters if p.key == key for end in p.domain.ends()] for key in made.space.keys
    }
    values = ends.get("pretrained", [made.base["pretrained"]])
    models = ends.get("model", [made.base["choices"]["model"]])
    for value in dict.fromkeys(values):
        if value is not None:
            for model in dict.fromkeys(models):
                yield str(value), str(model)


def _differing(found: KeptWeights, made: SweepPlan) -> str:
    """What the trial whose weights are taken had otherwise than the trials that take them."""
    differing = []
    for group in ("model", *OF_MODEL):
        there, here = found.config.get(group), made.base[group]
        if not isinstance(there, Mapping) or group in made.space.keys:
            continue
        if there.get("_target_") != here.get("_target_"):
            differing.append(f"{group} is {_choice(found.config, group)} there, {_choice(made.base, group)} here")
        elif there:
            names = differing_arguments(there, here)
            differing += [f"{group}.{name} is {there.get(name)} there, {here.get(name)} here" for name in names]
    return "; ".join(differing)


def _choice(config: Mapping[str, Any], group: str) -> str:
    return str(config.get("choices", {}).get(group) or config[group].get("_target_") or "default")
