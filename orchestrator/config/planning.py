"""From overrides and YAML to a checked SweepPlan. The only importer of hydra and omegaconf.

Hydra composes the defaults list and parses the override grammar. Values are set here, because a key below a searched group
belongs to the choices that have it, and because the schema of a choice is the signature of its target.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from orchestrator.base.errors import NotReadyError, Problem
from orchestrator.base.groups import GROUPS, PARTS
from orchestrator.base.rights import Rights, granted
from orchestrator.config.plan import SweepPlan

from .draft import Draft
from .joint import Joint
from .machine import Footprint, check_space, check_writable, footprint, gpus
from .probes import BUDGET_S, EVERY_TRIAL, claimed_networks, probes, untried
from .weights import FindTrial, Found, left_to_init, with_weights


@dataclass(frozen=True)
class _Wishes:
    """What a caller of `plan` wants beside it; see there."""

    say: Callable[[str], None] | None
    fetch: bool
    costs: bool
    find_trial: FindTrial | None


def plan(
    overrides: Sequence[str],
    *,
    config_dir: str | Path | None = None,
    config_name: str = "launch",
    say: Callable[[str], None] | None = None,
    fetch: bool = True,
    costs: bool = False,
    rights: Rights | None = None,
    find_trial: FindTrial | None = None,
) -> SweepPlan:
    """What a sweep with these overrides would do, checked down to one build of every choice; creates nothing but the cache of
    decoded images.

    Nothing is loaded or tried while there is a problem that can be seen without.

    Args:
        say: called with a line of progress while images are decoded, where that takes long.
        fetch: bring data that are not here; otherwise a note says that nothing was tried on them.
        costs: work out what a trial of each architecture costs, for `describe_plan`.
        rights: of whoever resumes a sweep, whose overrides stand in a journal and give none; those of the overrides where absent.
        find_trial: (runs folder, `SWEEP/7`) -> the weights that a trial kept, for `pretrained=SWEEP/7`.

    Raises:
        ConfigError: all problems found.
        NotReadyError: data are not there, or runs_dir cannot be written or has no room.
    """
    with granted(Rights()):
        draft = Draft(config_dir, config_name, given=rights, find_trial=find_trial)
        made = _with_capability(_tried(draft, overrides, _Wishes(say, fetch, costs, find_trial)))
    runs_dir = Path(made.settings["runs_dir"])
    check_writable(runs_dir)
    if "parameters" in made.facts:
        check_space(runs_dir, _footprint(made))
    return made


def _tried(
    draft: Draft,
    overrides: Sequence[str],
    wishes: _Wishes,
) -> SweepPlan:
    """The plan whose configurations were tried; it puts the rights of the overrides in force."""
    while True:
        made = draft.plan(overrides)
        draft.raise_problems()
        experiments = draft.catalogue.files["experiment"]
        found = with_weights(made, draft.problems, wishes.find_trial, fetch=wishes.fetch, experiments=experiments)
        draft.raise_problems()
        made = _with_probes(draft, found, wishes)
        if not (failing := draft.failing()):
            break
        # fewer each time; the last ones stay, with their problems
        draft = replace(draft, left_out={**draft.left_out, **failing}, problems=[], notes=[])
    draft.raise_problems()
    return made


def _with_capability(made: SweepPlan) -> SweepPlan:
    """The plan with what this machine computes with, where the trials run here: no worker has to be asked later.

    Raises:
        NotReadyError: a trial's device cannot be used.
    """
    from orchestrator.training.capability import capability

    if made.part("cluster").kind != "local":
        return made
    device, asked = made.settings["device"], made.settings["gpus_per_trial"]
    reserved = float(device != "cpu" and gpus() > 0) if asked is None else float(asked)
    try:
        found = capability(device, reserved)
    except RuntimeError as error:
        raise NotReadyError(f"{error}; gpus_per_trial=0 device=auto trains on the CPU") from error
    return replace(made, facts={**made.facts, "capability": vars(found)})


def _footprint(made: SweepPlan) -> Footprint:
    """What the sweep leaves on disk. Where the cluster decides how many trials run together, one is counted."""
    root, facts = made.root, made.facts
    return footprint(
        trials=root.trials,
        repeat=root.repeat,
        keep_weights=root.keep_weights,
        at_a_time=facts.get("fits") or root.max_concurrent or 1,
        parameters=facts["parameters"],
        examples=facts["val"] + facts["test"],
        classes=facts["num_classes"],
        snapshots=root.snapshots or 0,
    )


def compose_job(overrides: Sequence[str], *, config_dir: str | Path | None = None, config_name: str = "launch") -> str:
    """The composed configuration and search space as YAML; nothing is tried or read."""
    draft = Draft(config_dir, config_name)
    with granted(Rights()):
        made = draft.plan(overrides)
        draft.raise_problems()
    job = {
        **made.settings,
        **{group: dict(made.base[group]) for group in GROUPS},
        **{part: dict(getattr(made, part)) for part in PARTS},
        "choices": dict(made.base["choices"]),
        "space": [
            {"key": p.key, "domain": str(p.domain)} | ({"when": p.condition} if p.conditions else {})
            for p in made.space.parameters
        ],
    }
    return yaml.safe_dump(job, sort_keys=False, allow_unicode=True)


def fixed_trial(overrides: Sequence[str], *, config_dir: str | Path | None = None) -> tuple[dict[str, Any], Rights]:
    """The configuration of a trial in which nothing is searched, and the rights that it needs; nothing is tried or read.

    Raises:
        ConfigError: the overrides have a problem, or search something.
    """
    draft = Draft(config_dir, "launch")
    with granted(Rights()):
        made = draft.plan([*overrides, "search=none"])
    if draft.overrides.swept:
        key = next(iter(draft.overrides.swept))
        draft.problems.append(Problem(key, "must be one value here: nothing is searched"))
    draft.raise_problems()
    return dict(made.base), made.rights


def _with_probes(draft: Draft, found: Found, wishes: _Wishes) -> SweepPlan:
    """The plan with what trying its configurations showed."""
    from orchestrator.training import preflight
    from orchestrator.training.data.loading import absolute_paths

    made = found.plan
    made = replace(made, base={**made.base, "data": absolute_paths(made.base["data"], Path.cwd())})
    joint = Joint(made)
    told = joint.problems()
    configs = probes(made, joint)
    fetch = wishes.fetch and not told
    result = preflight.check(
        configs,
        wishes.say,
        fetch=fetch,
        costs=wishes.costs,
        networks=claimed_networks(made),
        budget_s=BUDGET_S,
        weights=found.complete,
    )
    for problem in (*told, *(problem for problem in result.problems if not joint.tells(problem))):
        if problem.key == "pretrained" and (differs := found.differing.get(str(problem.value))):
            problem = replace(problem, why=f"{problem.why}. {differs}")
        everywhere = problem.where is not None and problem.where.startswith(EVERY_TRIAL)
        draft.problems.append(replace(problem, where=None) if everywhere else problem)
    facts = json.loads(json.dumps(result.facts))  # as it will be read elsewhere: no tuples
    left = facts.pop(preflight.AS_INITIALIZED, {})
    entry = facts.get("data_entry", "")  # so that no worker looks through the files again
    notes = [f"pretrained={value}: {differs}" for value, differs in found.differing.items()]
    notes += left_to_init(made, left, draft.problems)
    notes += [note] if (note := untried([label for label, _ in configs], result.tried)) else []
    if not wishes.fetch and "fingerprint" not in facts and not result.problems:
        data = f"data={made.base['choices']['data']} is not here, or not decoded"
        notes.append(f"{data}: a launch brings it, and tries the models on it then")
    return replace(
        made,
        base={**made.base, "data_entry": entry},
        facts={**made.facts, **facts},
        notes=(*made.notes, *result.notes, *notes),
    )
