"""What MLflow has to hold of a sweep, folded from its journal: a second opinion, which shares no code with the tracker.

Names and values are spelled here once more, too. Wordings are not: what MLflow shows in words is in the journal.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeGuard

from orchestrator.base.groups import GROUPS, SHOWN_GROUPS
from orchestrator.base.records import STARTS_OVER, Divergence, InitHealth, State
from orchestrator.base.secrets import redact
from orchestrator.base.settings import SHOWN_KEYS
from orchestrator.journal.events import (
    Reported,
    Retrying,
    Started,
    SweepClosed,
    SweepResumed,
    Terminal,
)
from orchestrator.stores.runs import (
    MAX_DATASET_NAME_LENGTH,
    MAX_DIGEST_LENGTH,
    MAX_NAME_LENGTH,
    MAX_PARAM_LENGTH,
    MAX_TAG_LENGTH,
    Dataset,
    Metric,
)
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence

STATUS = {
    State.COMPLETED: "FINISHED",
    State.STOPPED: "FINISHED",
    State.DIVERGED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
    State.CANCELLED: "KILLED",
}
"""How a trial's end is shown in MLflow."""

CAN_BE_BEST = (State.COMPLETED, State.STOPPED, State.CANCELLED)
MOST_PARAMS = 20
"""Of a sweep that began before `SHOWN_RULES`."""

LACKING = "-"
MARKED = frozenset(State) - {State.COMPLETED, State.INTERRUPTED, State.RUNNING}
LONGEST_NAME = 100
NOTE = "mlflow.note.content"


@dataclass
class ExpectedRun:
    """One run as it has to be.

    Args:
        exact: whether an entry that is missing is wrong, too; runs of earlier versions may lack what they did not show.
        may_have: tags that may be missing, or have one of these values.
        name: what it is called.
        rows: all its metrics.
        datasets: what it was given.
        config: its configuration.
        error: the traceback that it ended with.
    """

    uid: str
    exact: bool
    name: str = ""
    start_ms: int = 0
    end_ms: int = 0
    status: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    may_have: dict[str, set[str]] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    rows: set[Metric] = field(default_factory=set)
    datasets: tuple[Dataset, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def trial_run(trial: TrialEvidence) -> ExpectedRun:
    """The run of a trial."""
    sweep, suggested = trial.sweep, trial.first
    uid = trial.uid
    run = ExpectedRun(uid, exact=suggested.seq > sweep.publishes_since, config=trial.suggested.config)
    run.tags = {
        "kind": "trial",
        "trial_uid": uid,
        "sweep_uid": sweep.uid,
        "trial": str(trial.index),
        "config_index": str(trial.config_index),
        "repeat": str(trial.repeat),
    }
    run.rows = trial_rows(trial)
    began_ms, waited, state = None, False, State.INTERRUPTED
    ended_ms = sweep.last_ms
    for entry in trial.entries_and_resumes:
        event = entry.event
        if isinstance(event, SweepResumed):
            waited = waited or began_ms is None
            continue
        if isinstance(event, Started):
            if began_ms is None:
                began_ms = suggested.time_ms if waited else event.began_ms or entry.time_ms
            run.tags["attempt"] = str(entry.attempt)
            continue
        if isinstance(event, Reported | Retrying | Terminal) and began_ms is None:
            began_ms = suggested.time_ms
        if isinstance(event, Reported):
            ran_on = event.ran_on if isinstance(event.ran_on, Mapping) else {}
            run.tags |= {f"ran_on.{key}": spelled(value) for key, value in ran_on.items() if value is not None}
            if event.init_health is not None:
                _add_health(run, event.init_health)
            if STARTS_OVER in event.notes:
                run.tags["restarted_from_scratch"] = "true"
        elif isinstance(event, Retrying):
            run.tags["retry_reason"] = spelled(event.reason)[:MAX_TAG_LENGTH]
        elif isinstance(event, Terminal):
            state, ended_ms, run.error = event.state, entry.time_ms, event.error
            if event.reason and event.reason != event.state:
                run.tags["detail"] = spelled(event.reason)[:MAX_TAG_LENGTH]
            if event.divergence is not None and event.divergence.get("signal"):
                run.tags["diverged_at"] = _where_it_diverged(event.divergence)[:MAX_TAG_LENGTH]
            if event.best_epoch is not None and is_finite(event.value):
                run.tags["best_epoch"] = str(event.best_epoch)
            for file in event.artifacts:
                run.tags[allowed_name(f"sha256.{_last_part(file['path'])}")] = file["sha256"]
    run.tags["reason"] = state.value
    run.status = STATUS.get(state, "KILLED")
    run.start_ms = suggested.time_ms if began_ms is None else began_ms
    _add_shown(run, trial, state)
    run.end_ms = max(ended_ms, run.start_ms)
    _add_weights(run, trial)
    _add_published(run, sweep)
    return run


def _add_health(run: ExpectedRun, health: InitHealth) -> None:
    run.tags["init_health"] = health["verdict"]
    if health.get("layer"):
        run.tags["init_health_layer"] = f"{health['layer']} ({health.get('signal')})"[:MAX_TAG_LENGTH]


def _where_it_diverged(told: Divergence) -> str:
    words = [told["signal"], *(["of", told["layer"]] if "layer" in told else []), "at epoch"]
    return f"{' '.join(words)} {told['epoch']}, step {told['step']}, lr {spelled(told.get('lr'))}"


def _add_shown(run: ExpectedRun, trial: TrialEvidence, state: State) -> None:
    """Name, parameters and MLflow's own fields, which the rules of the sweep decide."""
    sweep, suggested = trial.sweep, trial.suggested
    run.name, run.params = run.uid, few_params(suggested.params, suggested.config)
    if sweep.shows_all:
        run.name = name_of(trial.index, suggested.params, state if state in MARKED else None)
        found = [*suggested.params.items(), *settings_of(suggested.config, EVERY_GROUP)]
        run.params = dict.fromkeys(map(allowed_name, sweep.parameter_keys), LACKING)
        run.params |= {allowed_name(key): spelled(value)[:MAX_PARAM_LENGTH] for key, value in reversed(found)}
        for key in sweep.logarithmic_keys & suggested.params.keys():
            value = suggested.params[key]
            if is_finite(value) and value > 0:
                run.rows.add(Metric(allowed_name(f"log10/{key}"), 0, run.start_ms, math.log10(value)))
    run.tags["mlflow.runName"] = run.name
    _add_origin(run, sweep)


def _add_origin(run: ExpectedRun, sweep: SweepEvidence) -> None:
    """The data set, and what made the run."""
    if not sweep.shows_all:
        return
    environment = sweep.opened.environment
    command = environment.get("command") or ""
    command = command if isinstance(command, str) else " ".join(map(str, command))
    run.tags["mlflow.source.type"] = "LOCAL"
    run.tags["mlflow.source.name"] = (redact(command) or "orchestrator")[:MAX_TAG_LENGTH]
    code = str(environment.get("code") or "").removesuffix("-dirty")
    tail = code[len(code.rstrip("0123456789abcdef")) :][-40:]
    if len(tail) >= 7:
        run.tags["mlflow.source.git.commit"] = tail
    run.datasets = (dataset,) if (dataset := data_of(sweep)) else ()


def name_of(index: int, searched: Mapping[str, Any], marked: State | None) -> str:
    """What a trial's run is called: number, how it ended unless it completed, and its searched values in short."""
    ends = [key.split(".")[-1] for key in searched]
    words = []
    for (key, value), end in zip(searched.items(), ends, strict=True):
        short = format(value, ".2g") if isinstance(value, float) else str(value)
        plain = key in GROUPS and short not in ("none", "default")
        words.append(short if plain else f"{key if ends.count(end) > 1 else end}={short}")
    name = " ".join([str(index), *words])
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 3]}..."
    number, space, rest = name.partition(" ")
    return f"{number} [{marked}]{space}{rest}".rstrip() if marked else name


def data_of(sweep: SweepEvidence) -> Dataset | None:
    """The data set that every run of the sweep was given."""
    plan = sweep.plan_data[0]
    facts, spec = plan.get("facts") or {}, plan["base"].get("data") or {}
    digest = facts.get("fingerprint")
    if not isinstance(digest, str):
        return None
    sizes = {part: facts[part] for part in ("train", "val", "test") if isinstance(facts.get(part), int)}
    shape = [-1, facts.get("in_channels"), *(facts.get("image_size") or ())]
    columns = {
        name: json.dumps([{"type": "tensor", "tensor-spec": {"dtype": kind, "shape": of}}])
        for name, kind, of in (("features", "float32", shape), ("targets", "int64", [-1]))
    }
    profile = {"num_rows": sum(sizes.values())} | sizes | {"num_classes": facts.get("num_classes")}
    profile |= {key: spec[key] for key in ("val_fraction", "split_seed") if key in spec}
    name = str((plan["base"].get("choices") or {}).get("data") or spec.get("_target_") or "data")
    return Dataset(
        name[:MAX_DATASET_NAME_LENGTH],
        digest[:MAX_DIGEST_LENGTH],
        "orchestrator",
        redact(json.dumps(spec)),
        json.dumps({"mlflow_tensorspec": columns}),
        json.dumps(profile),
        "training, validation and test",
    )


def _add_weights(run: ExpectedRun, trial: TrialEvidence) -> None:
    """The last closing says which weights are kept; what an earlier one kept may have gone before it was shipped."""
    for entry in trial.sweep.sweep_entries:
        if not isinstance(entry.event, SweepClosed):
            continue
        for kept in entry.event.weights or ():
            if kept["trial"] == trial.index:
                key = allowed_name(f"sha256.{_last_part(kept['path'])}")
                run.may_have.setdefault(key, set()).add(kept["sha256"])
                if entry.event is trial.sweep.closed:
                    run.tags[key] = kept["sha256"]


def sweep_run(sweep: SweepEvidence) -> ExpectedRun:
    """The sweep's own run."""
    opened, exact = sweep.opened, 0 < sweep.publishes_since < sweep.first_suggestion
    run = ExpectedRun(sweep.uid, exact=exact, config=opened.config)
    run.name, run.params = sweep.uid, {"trials": spelled(opened.trials)} | _shared_params(sweep)
    run.tags = {
        "kind": "sweep",
        "sweep_uid": sweep.uid,
        "metric": spelled(opened.metric),
        "mode": spelled(opened.mode),
        "mlflow.runName": sweep.uid,
    }
    _add_origin(run, sweep)
    run.start_ms = sweep.sweep_entries[0].time_ms
    best = _BestSoFar(opened.mode)
    ended = resumes = 0
    status, reason, end_ms = "KILLED", State.INTERRUPTED.value, sweep.last_ms
    for entry in sweep.journal.entries:
        event = entry.event
        if isinstance(event, Terminal) and entry.trial in sweep.trials:
            ended += 1
            if (mean := best.after(sweep.trials[entry.trial], event)) is not None:
                run.rows.add(Metric(best_so_far_key(sweep), ended, entry.time_ms, mean))
        elif isinstance(event, SweepResumed):
            resumes += 1
            run.tags["resumes"] = str(resumes)
            status, reason, end_ms = "KILLED", State.INTERRUPTED.value, sweep.last_ms
        elif isinstance(event, SweepClosed):
            reason, end_ms = spelled(event.reason), entry.time_ms
            without_result = sweep.shows_all and event.best is None
            status = "FAILED" if event.reason == "failed" or without_result else "FINISHED"
            numbers: dict[str, Any] = {f"trials/{state}": count for state, count in event.totals.items()}
            numbers["seconds"] = event.seconds
            if sweep.shows_all and event.best:
                numbers[best_key(sweep)] = event.best["value"]
            _add(run.rows, numbers, 0 if sweep.shows_all else ended, entry.time_ms)
            if event.best:
                run.tags["best_trial"] = f"{sweep.uid}/{event.best['trial']}"
                run.tags["best_value"] = spelled(event.best["value"])
    run.tags["reason"], run.status, run.end_ms = reason, status, max(end_ms, run.start_ms)
    _add_published(run, sweep)
    return run


def _shared_params(sweep: SweepEvidence) -> dict[str, str]:
    """The settings that no trial differs in: what is searched is none, and in later sweeps nothing below it."""
    config, searched = sweep.opened.config, sweep.searched_at_first
    if not sweep.shows_all:
        return {key: value for key, value in few_params({}, config).items() if key not in searched}
    shared = [
        (key, value)
        for key, value in settings_of(config, EVERY_GROUP)
        if key not in searched and key.split(".")[0] not in searched
    ]
    return {allowed_name(key): spelled(value)[:MAX_PARAM_LENGTH] for key, value in shared}


def _add_published(run: ExpectedRun, sweep: SweepEvidence) -> None:
    for key, event in sweep.published.get(run.uid, {}).items():
        if event.text is not None:
            run.tags[allowed_name(key)] = event.text[:MAX_TAG_LENGTH]
        elif event.path is not None:
            run.tags[allowed_name(f"sha256.{key}")] = event.sha256


class _BestSoFar:
    """The mean of the best configuration while trials end: of those with the most repeats the best mean, then the lower index."""

    def __init__(self, mode: str) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._values: dict[int, dict[int, float]] = {}
        self._judged: dict[int, int] = {}
        self._key: tuple[int, float, int] | None = None

    def after(self, trial: TrialEvidence, end: Terminal) -> float | None:
        """The new best mean, if this end changes it."""
        if end.state not in CAN_BE_BEST or not is_finite(end.value):
            return None
        config = trial.config_index
        values = self._values.setdefault(config, {})
        values[trial.index] = float(end.value)
        if trial.suggested.judged:
            self._judged[config] = trial.index
        unselected = [value for index, value in values.items() if index != self._judged.get(config)]
        key = (len(values), self._sign * statistics.fmean(unselected or values.values()), -config)
        before = self._key
        if before is not None and key < before:
            return None
        self._key = key
        return None if before is not None and before[1] == key[1] else self._sign * key[1]


def trial_rows(trial: TrialEvidence) -> set[Metric]:
    """Every number of a trial: one row an epoch for each metric that is finite, and one at its end."""
    found: set[Metric] = set()
    for epoch in trial.epochs:
        _add(found, epoch["metrics"], epoch["epoch"], epoch["time_ms"])
    for entry in trial.of(Reported):
        if isinstance(entry.event, Reported) and entry.event.system:
            last = trial.sweep.journal.epochs([entry])[-1]
            busy = {f"system/{key}": value for key, value in entry.event.system.items()}
            _add(found, busy, last["epoch"], last["time_ms"])
    for entry in trial.of(Terminal):
        end = entry.event
        assert isinstance(end, Terminal)
        numbers = dict(end.metrics)
        if end.best_epoch is not None and is_finite(end.value):
            numbers |= {best_key(trial.sweep): end.value, "best/epoch": end.best_epoch}
        _add(found, numbers, 0 if trial.sweep.shows_all else end.best_epoch or end.epoch or 0, entry.time_ms)
    return found


def _add(found: set[Metric], numbers: Mapping[str, Any], step: int, time_ms: int) -> None:
    for key, value in numbers.items():
        if is_finite(value):
            found.add(Metric(allowed_name(key), step, time_ms, float(value)))


def best_key(sweep: SweepEvidence) -> str:
    """The name of the metric that is the best of the objective."""
    return "best/" + allowed_name(sweep.metric).replace("/", "_")


def best_so_far_key(sweep: SweepEvidence) -> str:
    """The name of the curve of that over the trials that have ended."""
    return best_key(sweep).replace("best/", "best_so_far/", 1) if sweep.shows_all else best_key(sweep)


def few_params(searched: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """The searched values, and as many of the fixed settings as make 20 in all: choices, then root keys, then arguments."""
    found = {allowed_name(key): spelled(value)[:MAX_PARAM_LENGTH] for key, value in searched.items()}
    for key, value in settings_of(config, SHOWN_GROUPS):
        if len(found) < MOST_PARAMS and not (key in GROUPS and value in ("default", "none")):
            found.setdefault(allowed_name(key), spelled(value)[:MAX_PARAM_LENGTH])
    return found


EVERY_GROUP = (*SHOWN_GROUPS, *sorted(set(GROUPS) - set(SHOWN_GROUPS)))


def settings_of(config: Mapping[str, Any], groups: Iterable[str]) -> list[tuple[str, object]]:
    """Names of choices, then root keys, then arguments."""
    choices = config.get("choices")
    choices = choices if isinstance(choices, Mapping) else {}
    found: list[tuple[str, object]] = [(group, choices[group]) for group in GROUPS if choices.get(group) is not None]
    found += [(key, config[key]) for key in SHOWN_KEYS if config.get(key) is not None]
    for group in groups:
        spec = config.get(group)
        if isinstance(spec, Mapping):
            found += [(f"{group}.{name}", value) for name, value in spec.items() if name != "_target_"]
    return found


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that MLflow is given; the journal writes others as words."""
    return isinstance(value, int | float) and math.isfinite(value)


def spelled(value: object) -> str:
    """A value as MLflow shows it."""
    words: dict[object, str] = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. :/")


@lru_cache(4_096)
def allowed_name(name: str) -> str:
    """A name of MLflow: `_` for what it does not allow, and before a part of the path that is empty, `.` or `..`."""
    kept = "".join(letter if letter in _ALLOWED else "_" for letter in name)[:MAX_NAME_LENGTH]
    return "/".join(f"_{part}" if part in ("", ".", "..") else part for part in kept.split("/"))


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]
