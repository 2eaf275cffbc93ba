"""The trials of a sweep that may become members, from its journal; and why the others may not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from orchestrator.base.costs import Costs, key_of, known_costs
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import PREDICTIONS, UID, trial_folder
from orchestrator.base.records import State
from orchestrator.ensembles.filters import runs_of
from orchestrator.ensembles.networks import Networks, Shape
from orchestrator.ensembles.pool import Member
from orchestrator.journal.record import SweepRecord, TrialRecord, is_number, read_sweep
from orchestrator.stores.runs import StoredRun, safe_name

UNKNOWN = "unknown"
"""An architecture that nothing names."""


@dataclass(frozen=True)
class LeftOut:
    """A trial, or a sweep, that is no candidate, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A sweep whose trials are compared.

    Args:
        folder: None of a sweep that is read from a tracking server.
        uri: of the server; None of a sweep that is read from its folder.
        run_id: of the sweep's run there.
    """

    uid: str
    metric: str
    mode: str
    folder: Path | None
    uri: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A completed trial that says it has predictions.

    Args:
        index: of the trial.
        path, sha256: of its predictions.
        uid: as its files name it; None where that is not known.
        data: the configuration of its data; empty where that is not known.
    """

    member: Member
    source: Source
    index: int
    path: Path
    sha256: str
    uid: str | None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepTrials:
    """All trials of a sweep.

    Args:
        runs: by trial, as a tracker makes them; read at the call.
        bring: brings the predictions of candidates to where they are read; returns those that cannot be brought.
        held: what has to live as long as the candidates are read.
    """

    source: Source
    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]
    runs: Callable[[], Mapping[str, StoredRun]]
    bring: Callable[[Sequence[Candidate]], list[LeftOut]] = lambda candidates: []
    held: object = None


def trials_of(folder: Path) -> SweepTrials:
    """The trials of the sweep in a folder.

    Raises:
        NotReadyError: its journal cannot be read.
    """
    record = read_sweep(folder)
    opened = record.opened
    if not UID.fullmatch(opened.uid):
        raise NotReadyError(f"the journal in {folder.name} names no sweep; put a copy in its place")
    source = Source(opened.uid, opened.metric, opened.mode, folder)
    facts = _facts(record)
    costs = known_costs(facts, {key_of(trial.config) for trial in record.trials.values()})
    networks = Networks(Shape.of(facts))
    configurations = first_of_equals((trial.config_index, trial.config) for trial in record.trials.values())
    candidates, left_out = [], []
    for trial in record.trials.values():
        name = f"{source.uid}/{trial.index}"
        if reason := why_not(trial.state, trial.value, source.metric, trial.metrics.get("test/loss"), _digest(trial)):
            left_out.append(LeftOut(name, reason))
            continue
        member = Member(
            name=name,
            params=trial.params,
            architecture=_architecture(trial.config),
            configuration=f"{source.uid}/c{configurations[trial.config_index]}",
            value=float(trial.value or 0.0),
            **priced(costs.get(key_of(trial.config), (None, None)), trial.config, networks),
        )
        path, uid = trial_folder(folder, trial.index) / PREDICTIONS, f"{opened.uid_in_files}/{trial.index}"
        data = trial.config.get("data")
        data = data if isinstance(data, Mapping) else {}
        candidates.append(Candidate(member, source, trial.index, path, _digest(trial) or "", uid, data))
    return SweepTrials(source, tuple(candidates), tuple(left_out), partial(runs_of, folder))


def why_not(state: str, value: object, metric: str, test_loss: object, sha256: str | None) -> str | None:
    """Why a trial is no candidate, as far as its record tells; None where it is one.

    Args:
        test_loss: as it was logged; a trial whose test predictions are not finite has none.
    """
    if state != State.COMPLETED:
        return f"not completed: {state}"
    if not is_number(value):
        return f"it has no {metric}"
    if sha256 is None:
        return "it has no predictions"
    if not is_number(test_loss):
        return "its test predictions are missing or not finite"
    return None


def best_key(metric: str) -> str:
    """The metric of a run that is its objective, as `SweepView` writes it."""
    return "best/" + safe_name(metric).replace("/", "_")


def first_of_equals(trials: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[int, int]:
    """The number of a configuration -> that of the first one that is like it but for the seed."""
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for number, config in sorted(trials, key=lambda trial: trial[0]):
        like = json.dumps({key: value for key, value in config.items() if key != "seed"}, sort_keys=True, default=str)
        found.setdefault(number, first.setdefault(like, number))
    return found


def _architecture(config: Mapping[str, Any]) -> str:
    """The choice of `model`, or the function that builds it."""
    choices, spec = config.get("choices"), config.get("model")
    choice = choices.get("model") if isinstance(choices, Mapping) else None
    target = spec.get("_target_") if isinstance(spec, Mapping) else None
    return str(choice or target or UNKNOWN)


def _digest(trial: TrialRecord) -> str | None:
    """The SHA-256 of its predictions, as the journal has it."""
    digests = [file["sha256"] for file in trial.artifacts if Path(file["path"]).name == PREDICTIONS.name]
    return digests[-1] if digests else None


def _facts(record: SweepRecord) -> Mapping[str, Any]:
    """What was found out when the sweep was planned; whatever a journal holds."""
    try:
        facts = json.loads(record.plan)["facts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return facts if isinstance(facts, Mapping) else {}


class Priced(TypedDict):
    """What a member's network costs, as `pool.Member` has it."""

    parameters: int | None
    multiply_adds: int | None
    unpriced: str | None
    passes: int


def priced(known: Costs, config: Mapping[str, Any], networks: Networks) -> Priced:
    """What a trial's network costs, or why that is not known; worked out where its plan does not say it."""
    found = known if known[1] is not None else networks.costs(config)
    parameters, adds = known if isinstance(found, str) else found
    passes = networks.passes(config)
    why = found if isinstance(found, str) else None
    if passes is None:
        why = "how often an image goes through its network is not known"
    adds = None if adds is None or passes is None else adds * passes
    return {"parameters": parameters, "multiply_adds": adds, "unpriced": why, "passes": passes or 1}
