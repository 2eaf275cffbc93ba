"""What the journal says of itself: trials begin, report and end in order, and its counts are right."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.base.errors import ConfigError
from orchestrator.base.records import NODE_LOST, State
from orchestrator.base.rules import repeat_seed
from orchestrator.base.upgrades import current_config
from orchestrator.config.plan import SweepPlan, trial_config
from orchestrator.journal.events import Reported, Retrying, Started, Suggested, SweepClosed, SweepResumed, Terminal
from orchestrator.journal.file import Entry
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence, fixed
from orchestrator.verify.rules import Finding, NotChecked

ALL_RUN = {"finished"}
"""Reasons of a closing after which every configuration has run; a budget, a stop or a used-up space ends a sweep earlier."""

WITHOUT_STOPS = "orchestrator.scheduling.schedulers.none."

PATIENCE = "orchestrator.training.early_stopping.patience.patience"


def one_end(trial: TrialEvidence) -> Iterator[Finding]:
    """One terminal event, and nothing of the trial after it."""
    ends = trial.of(Terminal)
    expected = 1 if trial.sweep.closed else min(len(ends), 1)
    if len(ends) != expected:
        yield Finding(f"{len(ends)} terminal events", f"{expected}")
    for entry in trial.entries[: trial.entries.index(ends[0]) : -1] if ends else ():
        if not isinstance(entry.event, Terminal):
            yield Finding(f"event {entry.seq} ({entry.kind}) after its end", "nothing")


def totals(sweep: SweepEvidence) -> Iterator[Finding]:
    """The closing counts the trials by state, and what was configured has run."""
    counted = Counter(trial.state.value for trial in sweep.trials.values() if trial.terminal)
    trials = int(sweep.setting("trials"))
    most = max(int(plan.settings["trials"]) for _, plan in sweep.plans)
    configurations = {trial.config_index for trial in sweep.trials.values()}
    if len(configurations) > most:
        yield Finding(f"{len(configurations)} configurations suggested", f"at most {most}")
    if sweep.closed is None:
        return
    said = {state: count for state, count in sweep.closed.totals.items() if count}
    if said != counted:
        yield Finding(f"sweep_closed counts {said}", f"{dict(counted)}")
    if sweep.closed.reason in ALL_RUN:
        if len(configurations) < trials:
            yield Finding(f"{len(configurations)} configurations in a finished sweep", f"{trials}")
        yield from _repeats(sweep, int(sweep.setting("repeat", 1)))


def _repeats(sweep: SweepEvidence, repeat: int) -> Iterator[Finding]:
    """Every configuration has all its repeats; under early stopping only one whose first trial completed."""
    stops = not str(sweep.plan.scheduler["_target_"]).startswith(WITHOUT_STOPS)
    schedulers = {_canonical(dict(plan.scheduler)) for _, plan in sweep.plans}
    asked = _asked_repeats(sweep)
    for config_index, members in _groups(sweep).items():
        wanted = max(repeat, asked.get(config_index, 0))
        first = next((trial for trial in members if trial.repeat == 0), None)
        survived = first is not None and first.state is State.COMPLETED
        allowed = {wanted} if survived or not stops else {1, wanted}
        if len(schedulers) > 1:
            allowed = set(range(1, wanted + 1))
        if len(members) not in allowed:
            yield Finding(f"{len(members)} trials", f"{wanted}", f"configuration {config_index}")


def _asked_repeats(sweep: SweepEvidence) -> dict[int, int]:
    """Configuration -> how many trials of it resumes asked for."""
    found: dict[int, int] = {}
    for entry in sweep.journal.entries:
        if isinstance(entry.event, SweepResumed):
            for key, repeats in entry.event.repeats_of.items():
                found[int(key)] = max(repeats, found.get(int(key), 0))
    return found


def _groups(sweep: SweepEvidence) -> dict[int, list[TrialEvidence]]:
    found: dict[int, list[TrialEvidence]] = defaultdict(list)
    for trial in sweep.trials.values():
        found[trial.config_index].append(trial)
    return found


def epochs_in_order(trial: TrialEvidence) -> Iterator[Finding]:
    """Reports hold the epochs 1, 2, ... once each, up to the one that the trial ended with."""
    reported = trial.epoch_numbers
    if reported != list(range(1, len(reported) + 1)):
        yield Finding(f"the journal reports the epochs {short(reported)}", f"1 to {len(reported)}, each once")
    if trial.terminal and trial.terminal.epoch != trial.last_epoch:
        yield Finding(f"it ended with epoch {trial.terminal.epoch}", f"{trial.last_epoch}, the last reported")
    most = fixed(trial, "epochs")
    if isinstance(most, int) and trial.last_epoch > most:
        yield Finding(f"epoch {trial.last_epoch}", f"at most {most}")
    if trial.state is State.COMPLETED and trial.last_epoch != most and not _stopped_early(trial):
        yield Finding(f"it completed with epoch {trial.last_epoch}", f"{most}")


def _stopped_early(trial: TrialEvidence) -> bool:
    """Whether the trial's own rule ends it with its last epoch; a rule that is not of the catalogue is believed."""
    rule = trial.suggested.config.get("early_stopping") or {}
    if rule.get("_target_") != PATIENCE:
        return bool(rule)
    values = [epoch["metrics"][trial.sweep.metric] for epoch in trial.epochs]
    since, best = 0, values[0]
    for value in values[1:]:
        gain = value - best if trial.sweep.mode == "max" else best - value
        since, best = (0, value) if gain > rule["min_delta"] else (since + 1, best)
    return bool(since == rule["patience"])


def configuration(trial: TrialEvidence) -> Iterator[Finding]:
    """The recorded configuration is the one that the plan in force gives for its parameters, with the seed of its repeat.

    The plan in force when the first of the repeats was suggested: the others are copies of that.
    """
    (suggested, *again) = trial.of(Suggested)
    if again:
        yield Finding(f"{len(again) + 1} suggestions", "1")
    if "firsts" not in trial.sweep.memo:
        trials = trial.sweep.trials.values()
        trial.sweep.memo["firsts"] = {c.config_index: c.of(Suggested)[0].seq for c in trials if c.repeat == 0}
    begun = min(suggested.seq, trial.sweep.memo["firsts"].get(trial.config_index, suggested.seq))
    expected = trial_config(trial.sweep.plan_at(begun), trial.suggested.params)
    expected["seed"] = repeat_seed(expected["seed"], trial.repeat, trial.sweep.plan.rules)
    ours, theirs = _canonical(trial.suggested.config), _canonical(expected)
    if ours != theirs:  # of an earlier version: what was added since is at its default in the plan
        ours = _canonical(current_config(trial.suggested.config))
    if ours != theirs:
        differing = [
            key
            for key in sorted({*expected, *trial.suggested.config})
            if not _same(key, trial.suggested.config, expected)
        ]
        yield Finding(f"its configuration has another {', '.join(differing)}", "that of its parameters")


def _same(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (key in one) == (key in other) and _canonical(one.get(key)) == _canonical(other.get(key))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def distinct(sweep: SweepEvidence) -> Iterator[Finding]:
    """No two trials are the same repeat of the same configuration; a sampler suggests none twice, unless it says that it may."""
    first: dict[tuple[int, int], int] = {}
    for trial in sweep.trials.values():
        other = first.setdefault((trial.config_index, trial.repeat), trial.index)
        if other != trial.index:
            what = f"configuration {trial.config_index}, repeat {trial.repeat}"
            yield Finding(f"it is {what}, as trial {other} is", "one of its own", f"trial {trial.index}")
    repeating: dict[str, bool] = {}
    known: dict[tuple[int, str], int] = {}
    groups: dict[int, str] = {}
    for trial in sweep.trials.values():
        params = _canonical(trial.suggested.params)
        if groups.setdefault(trial.config_index, params) != params:
            yield Finding("other parameters than its repeats", "the same", f"trial {trial.index}")
        plan = sweep.plan_at(trial.of(Suggested)[0].seq)
        spelled = _canonical(plan.sampler)
        if spelled not in repeating:
            repeating[spelled] = _may_repeat(plan)
        if trial.repeat or repeating[spelled]:
            continue
        other = known.setdefault((_first_of_sampler(sweep, trial.config_index), params), trial.index)
        if other != trial.index:
            yield Finding(f"the parameters of trial {other} again", "new ones", f"trial {trial.index}")


def _may_repeat(plan: SweepPlan) -> bool:
    """Whether the sampler may suggest a configuration twice; one that cannot be built here, or does not say, is let off."""
    try:
        return bool(getattr(plan.part("sampler"), "repeats", True))
    except (ConfigError, ImportError):
        return True


def _first_of_sampler(sweep: SweepEvidence, config_index: int) -> int:
    """The first configuration that the sampler of this one suggested."""
    begun = [0, *(entry.event.first_config_index for entry in sweep.resumes if isinstance(entry.event, SweepResumed))]
    return max((first for first in begun if first <= config_index), default=0)


def attempts(trial: TrialEvidence) -> Iterator[Finding]:
    """Attempts are 1, 2, ...; each after the first has its cause, a retry or a resume; every report is of one that began."""
    begun: list[int] = []
    due: int | None = 1  # the attempt that may begin now
    for entry in _with_resumes(trial):
        attempt, event = entry.attempt or 0, entry.event
        if isinstance(event, SweepResumed):
            due = due or begun[-1] + 1
        elif isinstance(event, Started):
            if due is None:
                yield Finding(f"attempt {attempt} begins without a cause", "a retry or a resume before it")
            elif attempt != due:
                yield Finding(f"attempt {attempt} begins", f"attempt {due}")
            begun.append(attempt)
            due = None
        elif isinstance(event, Retrying):
            ended = due or begun[-1]  # a worker may die before its start is told
            if attempt != ended:
                yield Finding(f"a retry after attempt {attempt}", f"after attempt {ended}")
            due = attempt + 1
        elif isinstance(event, Reported) and attempt not in begun:
            yield Finding(f"a report of attempt {attempt}, which never began", f"one of {begun}")
    if trial.state in (State.COMPLETED, State.STOPPED, State.DIVERGED) and not begun:
        yield Finding(f"it is {trial.state} and never began", "at least one attempt")
    retries = [entry.event for entry in trial.entries if isinstance(entry.event, Retrying)]
    charged = sum(retry.reason != NODE_LOST for retry in retries)
    allowed = max(int(plan.settings["max_retries"]) for _, plan in trial.sweep.plans)
    if charged > allowed:
        yield Finding(f"{charged} retries", f"at most {allowed}")


def _with_resumes(trial: TrialEvidence) -> list[Entry]:
    return sorted([*trial.entries, *trial.sweep.resumes], key=lambda entry: entry.seq)


def strays(sweep: SweepEvidence) -> Iterator[Finding]:
    for index in sweep.strays:
        yield Finding("events of a trial that was never suggested", "a suggestion first", f"trial {index}")


def fenced(trial: TrialEvidence) -> Iterator[Finding]:
    """Nothing of an attempt comes once the next one has begun, and no report before its attempt."""
    current = 0
    for entry in trial.entries:
        attempt = entry.attempt or 0
        if isinstance(entry.event, Started):
            current = attempt
        elif isinstance(entry.event, Reported | Retrying | Terminal):
            # An attempt that is lost, or cancelled, before it begins ends without having begun.
            early = attempt > current and not isinstance(entry.event, Reported)
            if attempt != current and not early:
                yield Finding(f"event {entry.seq} ({entry.kind}) is of attempt {attempt}", f"of attempt {current}")


def kept_value(trial: TrialEvidence) -> Iterator[Finding]:
    """The value that the trial ended with is its best epoch's, the earliest of equals."""
    if trial.terminal is None:
        return
    sign = 1.0 if trial.sweep.mode == "max" else -1.0
    values = {
        int(epoch["epoch"]): float(epoch["metrics"][trial.sweep.metric])
        for epoch in trial.epochs
        if isinstance(epoch["metrics"].get(trial.sweep.metric), int | float)
    }
    best = max(values, key=lambda epoch: (sign * values[epoch], -epoch), default=None)
    said = (trial.terminal.best_epoch, trial.terminal.value)
    expected = (best, values[best] if best is not None else None)
    if said != expected:
        yield Finding(f"it ended with epoch {said[0]} as best, value {said[1]}", f"epoch {expected[0]}, {expected[1]}")


def best_configuration(sweep: SweepEvidence, values: Mapping[int, float | None]) -> tuple[int, float] | None:
    """The first trial and the mean of the best configuration, from each trial's best value.

    Of the configurations with the most repeats the one with the best mean; ties go to the lower index. The trial that a scheduler
    judged counts as a repeat, and is left out of the mean where there are others.
    """
    sign = 1.0 if sweep.mode == "max" else -1.0
    scores = []
    for config_index, members in _groups(sweep).items():
        usable = {
            trial.index: value
            for trial in members
            if trial.state in (State.COMPLETED, State.STOPPED, State.CANCELLED)
            and (value := values.get(trial.index)) is not None
        }
        if usable:
            judged = {trial.index for trial in members if trial.suggested.judged}
            mean = statistics.fmean(
                [value for index, value in usable.items() if index not in judged] or usable.values()
            )
            scores.append((len(usable), sign * mean, -config_index, min(usable)))
    if not scores:
        return None
    _, signed, _, trial = max(scores)
    return trial, sign * signed


def best_by_journal(sweep: SweepEvidence) -> Iterator[Finding]:
    """The best trial of the closing follows from the values that the trials ended with."""
    closed = require_closed(sweep)
    values = {index: trial.terminal.value for index, trial in sweep.trials.items() if trial.terminal}
    usable = {index: value for index, value in values.items() if isinstance(value, int | float)}
    expected = best_configuration(sweep, usable)
    said = closed.best and (closed.best["trial"], closed.best["value"])
    if not is_same_best(said, expected):
        yield Finding(
            f"sweep_closed says {best_text(said)}", f"{best_text(expected)}, by the trials' ends", "the best trial"
        )


def best_is_described(sweep: SweepEvidence) -> Iterator[Finding]:
    """What the closing says of the best configuration beside its value: its settings, its repeats, their spread."""
    best = require_closed(sweep).best
    first = sweep.trials.get(best["trial"]) if best else None
    if best is None or first is None:
        return
    values: dict[int, float] = {}
    members = [trial for trial in sweep.trials.values() if trial.config_index == first.config_index]
    for trial in members:
        value = trial.terminal.value if trial.terminal else None
        if trial.state in (State.COMPLETED, State.STOPPED, State.CANCELLED) and isinstance(value, int | float):
            values[trial.index] = float(value)
    judged = next((trial.index for trial in members if trial.suggested.judged and trial.index in values), None)
    unselected = [value for index, value in values.items() if index != judged] or list(values.values())
    expected = {
        "params": first.suggested.params,
        "repeats": len(values),
        "spread": statistics.stdev(unselected) if len(unselected) > 1 else None,
        "selected": values.get(judged) if judged is not None and len(values) > 1 else None,
    }
    for key, right in expected.items():
        said: Any = best.get(key)
        if key in best and not _about(said, right):
            yield Finding(f"sweep_closed says {key} {said}", f"{right}", "the best trial")


def _about(said: object, right: object) -> bool:
    """Whether both are equal, but for the rounding of a number."""
    if isinstance(said, int | float) and isinstance(right, int | float):
        return math.isclose(said, right, rel_tol=1e-9)
    return said == right


def opening_repeats_plan(sweep: SweepEvidence) -> Iterator[Finding]:
    """What the opening says for readers is what its plan says."""
    opened = sweep.opened
    plan = json.loads(opened.plan)
    pairs = {
        "metric": (opened.metric, plan["base"].get("metric")),
        "mode": (opened.mode, plan["base"].get("mode")),
        "trials": (opened.trials, plan["settings"].get("trials")),
        "config": (opened.config, plan["base"]),
        "sampler": (opened.sampler, plan["sampler"]),
        "scheduler": (opened.scheduler, plan["scheduler"]),
    }
    for key, (said, right) in pairs.items():
        if said and _canonical(said) != _canonical(right):
            yield Finding(f"sweep_opened says another {key} than its plan", "the same")


def is_same_best(said: tuple[Any, Any] | None, expected: tuple[int, float] | None) -> bool:
    """Whether both are one trial, and one value but for the rounding of a mean."""
    if said is None or expected is None:
        return said is expected
    known = isinstance(said[1], int | float)
    return said[0] == expected[0] and known and math.isclose(said[1], expected[1], rel_tol=1e-12)


def best_text(best: tuple[Any, Any] | None) -> str:
    return "none" if best is None else f"trial {best[0]}, {best[1]}"


def require_closed(sweep: SweepEvidence) -> SweepClosed:
    """The closing.

    Raises:
        NotChecked: there is none.
    """
    if sweep.closed is None:
        raise NotChecked("the sweep is not closed")
    return sweep.closed


def short(numbers: Sequence[int]) -> str:
    """The numbers for a message, not all of many."""
    shown = ", ".join(map(str, numbers[:12]))
    return shown if len(numbers) <= 12 else f"{shown}, ... ({len(numbers)} in all)"
