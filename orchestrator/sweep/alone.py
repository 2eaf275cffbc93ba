"""`orchestrator train`: one configuration, or one trial of a sweep again, here, without Ray and MLflow."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from orchestrator.analysis.divergence import divergence_words
from orchestrator.base.build import check, mismatch, parameters, unknown_key
from orchestrator.base.errors import EXIT_NO_RESULT, EXIT_OK, ConfigError, NotReadyError, Problem
from orchestrator.base.groups import GROUPS, PROVIDED
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.base.records import EpochResult, State, Trial
from orchestrator.base.rights import granted
from orchestrator.base.secrets import redact
from orchestrator.base.settings import PRETRAINED_FILES, TRIAL_KEYS, Settings, settings_problems
from orchestrator.base.targets import resolve
from orchestrator.base.text import say, visible
from orchestrator.base.upgrades import current_config
from orchestrator.config.machine import gpus
from orchestrator.config.plan import SweepPlan, set_key, trial_config
from orchestrator.config.rights import check_recorded, typed_rights
from orchestrator.housekeeping.loading import kept_weights, trial_weights
from orchestrator.housekeeping.reading import TrialStory, find_trial
from orchestrator.journal.record import TrialRecord
from orchestrator.sweep.bar import EpochBar
from orchestrator.sweep.kept import Keeper, alone, kept
from orchestrator.sweep.resources import with_gpus

SETTABLE = tuple(key for key in TRIAL_KEYS if key != "allowed_targets")
"""The root keys that may be given anew where a trial is trained again."""


def train_one(
    overrides: Sequence[str], *, config_dir: Path | None = None, config_name: str = "launch", folder: Path | None = None
) -> int:
    """Trains the configuration with a progress bar, tests it once and says how it went; returns the exit code.

    Args:
        folder: where checkpoints, weights and predictions are kept, and continued from; where absent, they are kept as a sweep
            of one trial in `runs_dir`.

    Raises:
        ConfigError: the overrides leave something to search.
    """
    from orchestrator.config.planning import plan as make_plan

    given = list(overrides)
    if not any(override.split("=")[0].lstrip("+") == "search" for override in given):
        given.append("search=none")
    tell = partial(say, out=sys.stderr)
    plan = make_plan(given, config_dir=config_dir, config_name=config_name, say=tell, find_trial=kept_weights)
    if plan.space.parameters:
        keys = ", ".join(plan.space.keys)
        raise ConfigError(Problem(keys, "train takes one configuration; give each key one value, or use launch"))
    config = trial_config(with_gpus(plan, gpus()), {})
    _check_device(config)
    with granted(plan.rights):
        if folder is not None:
            return _train(Trial("train/0", 0, config, folder=str(folder.resolve()))).code
        own = alone(plan, config, name=plan.root.name or "train", runs_dir=Path(plan.root.runs_dir))
        with kept(own, ["orchestrator", "train", *overrides]) as keeper:
            return _train_kept(keeper).code


def _check_device(config: Mapping[str, Any]) -> None:
    """Raise NotReadyError if the device cannot be used."""
    from orchestrator.training.capability import capability

    try:
        capability(config["device"], config["gpus_per_trial"])
    except RuntimeError as error:
        raise NotReadyError(f"{error}; gpus_per_trial=0 device=auto trains on the CPU") from error


def train_again(
    name: str, overrides: Sequence[str] = (), *, runs_dir: Path = Path("runs"), folder: Path | None = None
) -> int:
    """Trains the trial `NAME/7` of a sweep again, from the configuration in its journal, and compares; returns the exit code.

    On a CPU everything comes out bit for bit as recorded, as long as code and data are those of then. A trial that was stopped
    early is trained as far as it came.

    Args:
        overrides: `key=value` of keys that the configuration has; it is another configuration then, and nothing is compared.
            `allowed_targets=` and `import_paths=` change no configuration; those of the journal count for nothing.
        folder: as in `train_one`; not one of the sweep's own.

    Raises:
        ConfigError: there is no such trial, or an override cannot be used.
        NotReadyError: the journal cannot be read, or the data are not there.
    """
    story = find_trial(runs_dir, name)
    if folder is not None and folder.resolve().is_relative_to(story.folder.resolve()):
        raise ConfigError(Problem("--folder", "belongs to the sweep, whose record it is; name another one", folder))
    rights, overrides = typed_rights(overrides)
    config = current_config(story.trial.config)
    check_recorded(story.name, config, rights)
    with granted(rights):
        return _train_story(story, _with_weights_here(config, story.folder.parent), overrides, folder)


def _train_story(story: TrialStory, config: dict[str, Any], overrides: Sequence[str], folder: Path | None) -> int:
    recorded = story.trial
    if overrides:
        config = changed(config, overrides, story.folder.parent)
        say(f"{story.name} with {' '.join(overrides)}: no longer the same trial, so nothing is compared")
    early = recorded.state in (State.STOPPED, State.CANCELLED) and recorded.epoch and not overrides
    until = recorded.epoch if early else None
    if folder is None:
        return _train_story_and_keep(story, config, overrides, until)
    # The name is in the files: with that of the trial they are the same to the byte.
    run = Trial("train/0" if overrides else story.uid_in_files, recorded.index, config, folder=str(folder.resolve()))
    trained = _train(run, until)
    if not overrides:
        say(_verdict(recorded, trained, _weights_differ(story, folder)))
    return trained.code


def _train_story_and_keep(
    story: TrialStory, config: dict[str, Any], overrides: Sequence[str], until: int | None
) -> int:
    if not story.record.plan:
        raise NotReadyError(
            f"the journal of {story.name} holds no plan to keep a training with; say where:  --folder FOLDER"
        )
    plan = SweepPlan.from_json(story.record.plan)
    own = alone(plan, config, name=f"{story.record.opened.name}-{story.trial.index}", runs_dir=story.folder.parent)
    with kept(own, ["orchestrator", "train", f"from={story.name}", *overrides]) as keeper:
        trained = _train_kept(keeper, until)
        if not overrides:
            differ = _weights_differ(story, Path(keeper.trial.folder))
            say(_verdict(story.trial, trained, differ))
    return trained.code


@dataclass(frozen=True)
class _Trained:
    """The outcome of a run.

    Args:
        reason: why there is no result, if there is none.
        metrics: of the test.
    """

    code: int
    history: list[EpochResult]
    metrics: Mapping[str, float]
    reason: str | None = None


def _train_kept(keeper: Keeper, until: int | None = None) -> _Trained:
    """Trains the trial of a sweep of its own, and says how to get at it."""
    trained = _train(keeper.trial, until, keeper)
    uid = keeper.folder.name
    if trained.code == EXIT_OK:
        where = "" if keeper.folder.parent == Path("runs").resolve() else f', "{keeper.folder.parent}"'
        say(f'kept as {uid}:  orchestrator.load_model("{uid}"{where}).predict(images)  in Python')
    else:
        say(f"recorded as {uid}")
    return trained


def _train(trial: Trial, until: int | None = None, keeper: Keeper | None = None) -> _Trained:
    """Trains to the end, or to epoch `until`, and tests."""
    from orchestrator.training.divergence import story
    from orchestrator.training.trial import Diverged, Infeasible, TrialRun

    epochs = int(trial.config["epochs"]) if until is None else until
    history: list[EpochResult] = []
    with EpochBar(epochs) as bar:
        try:
            run = TrialRun(trial)
            bar.watch(run, before=run.epoch)
            history = run.history
            if keeper:
                keeper.began(run)
            _tell(run.notes, bar)
            if run.history:
                bar.console.print(f"continues after epoch {run.epoch}")
            while run.epoch < epochs and (result := next(iter(run), None)) is not None:
                if keeper:
                    keeper.epoch(run)
                else:
                    run.save()
                bar.update(bar.task_ids[0], completed=result.epoch, text="")
                _say_epoch(result, epochs, bar)
                if keeper and keeper.stop_asked:
                    keeper.end(State.CANCELLED, reason="stopped")
                    say(f"stopped after epoch {run.epoch}")
                    return _Trained(EXIT_NO_RESULT, history, {}, "stopped")
            outcome = run.finish()
            if keeper:
                whole = run.whole
                reason = outcome.reason if whole else f"trained as far as the recorded trial, to epoch {run.epoch}"
                keeper.end(State.COMPLETED if whole else State.STOPPED, outcome, reason=reason)
        except Diverged as ended:
            told = story(trial, ended)
            if keeper:
                keeper.diverged(run, ended, told)
            say(f"no result: {ended}")
            say(divergence_words(told, str(ended)))
            return _Trained(EXIT_NO_RESULT, history, {}, str(ended))
        except Infeasible as ended:
            if keeper:
                keeper.end(State.INFEASIBLE, reason=str(ended))
            say(f"no result: {ended}")
            return _Trained(EXIT_NO_RESULT, history, {}, str(ended))
    best_epoch, value = run.best or (0, float("nan"))
    say(f"best {trial.config['metric']} {value:.4f} at epoch {best_epoch}")
    say("  ".join(f"{name} {number:.4f}" for name, number in outcome.metrics.items()))
    if outcome.reason:
        say(outcome.reason)
    return _Trained(EXIT_OK, history, outcome.metrics)


TIMED = {"images_per_s"}
"""Metrics that measure time, which differ from run to run."""


def _verdict(recorded: TrialRecord, trained: _Trained, weights_differ: bool | None) -> str:
    """Whether the new run equals the recorded one, and where it differs."""
    if not recorded.epochs and not recorded.ended:
        return "nothing to compare: the trial has not reported an epoch yet"
    here = {result.epoch: dict(result.metrics) for result in trained.history}
    unequal = []
    for epoch in recorded.epochs:
        there, mine = epoch["metrics"], here.get(epoch["epoch"], {})
        names = [name for name in there if name not in TIMED and mine.get(name) != there[name]]
        if names:
            unequal.append(f"epoch {epoch['epoch']}: {', '.join(names)}")
            break
    unequal += [name for name, value in recorded.metrics.items() if trained.metrics.get(name) != value]
    if recorded.state in (State.DIVERGED, State.INFEASIBLE) and trained.reason != recorded.reason:
        unequal.append(f"it ended differently ({recorded.reason})")
    if weights_differ:
        unequal.append("the best weights")
    if not unequal:
        whole = "" if recorded.ended else f", as far as it came (epoch {recorded.epoch})"
        return f"equal to the recorded trial: yes{whole}"
    return f"equal to the recorded trial: no ({'; '.join(unequal)}); are code, data and device those of then?"


def _weights_differ(story: TrialStory, folder: Path) -> bool | None:
    """Whether the best weights differ from the sweep's; None if there is nothing to compare.

    If a trial was cancelled or is still running, its file may be from a later epoch than the last recorded one.
    """
    from orchestrator.training.checkpoint import Damaged
    from orchestrator.training.restored import same_weights

    there, here = trial_folder(story.folder, story.trial.index) / BEST, folder / BEST
    final = story.trial.state in (State.COMPLETED, State.STOPPED)
    if not (final and there.is_file() and here.is_file()):
        return None
    try:
        return not same_weights(there, here, uid=story.uid_in_files)
    except Damaged as error:
        say(f"the sweep's own weights are not compared: {error}")
        return None


def changed(config: Mapping[str, Any], overrides: Sequence[str], runs_dir: Path = Path("runs")) -> dict[str, Any]:
    """A trial's configuration with other values of keys that it has.

    Args:
        runs_dir: the folder of the sweeps, of whose trials `pretrained` may name one.

    Raises:
        ConfigError: all problems found.
    """
    from orchestrator.config.grammar import parse, plain
    from orchestrator.training import preflight

    result: dict[str, Any] = copy.deepcopy(dict(config))
    problems = []
    for text in overrides:
        try:
            override = parse(text)
            value = plain(override.value()) if not override.is_sweep_override() else None
        except ValueError as error:
            problems.append(Problem(text, str(error)))
            continue
        key = override.key_or_group
        if why := _unusable(result, key, value, sweep=override.is_sweep_override()):
            problems.append(why)
        else:
            set_key(result, key, value)
    problems = problems or _problems(result) or _other_weights(result, config["pretrained"], runs_dir)
    problems = problems or preflight.check([("", result)]).problems
    if problems:
        raise ConfigError(problems)
    return result


def _with_weights_here(config: dict[str, Any], runs_dir: Path) -> dict[str, Any]:
    """The configuration with the places where trials keep the weights that it begins with, if the folder of sweeps was moved."""
    files = config.get(PRETRAINED_FILES, {})
    found = {key: trial_weights(runs_dir, file["trial"]) for key, file in files.items() if file.get("trial")}
    moved = {key: {**files[key], "path": str(path)} for key, path in found.items() if path is not None}
    return {**config, PRETRAINED_FILES: {**files, **moved}} if moved else config


def _other_weights(config: dict[str, Any], before: str | None, runs_dir: Path) -> list[Problem]:
    """Writes down which file another value of `pretrained` stands for; what is wrong with it."""
    from orchestrator.config.weights import described, find_weights
    from orchestrator.training.pretrained import key_of

    value, model = config["pretrained"], config["choices"]["model"]
    if value in (before, None):
        return []
    try:
        found = find_weights(str(runs_dir), value, model, kept_weights)
        assert found is not None, "what is not here is brought"
        file = described(found, config["data"])
    except ConfigError as error:
        return [replace(problem, key="pretrained", value=value) for problem in error.problems]
    except ValueError as error:
        return [Problem("pretrained", str(error), value)]
    config["pretrained"] = found.trial or value
    config[PRETRAINED_FILES] = {key_of(config["pretrained"], model): file}
    return []


def _unusable(config: Mapping[str, Any], key: str, value: object, *, sweep: bool) -> Problem | None:
    """Why a key cannot be set on top of a recorded configuration."""
    if key in GROUPS:
        return Problem(key, "another choice would come from today's files; use orchestrator train without from=")
    if sweep:
        return Problem(key, "train takes one value")
    group, _, name = key.partition(".")
    if group in GROUPS and name:
        spec = config[group]
        known = parameters(resolve(spec["_target_"]), PROVIDED.get(group, ())) if spec else {}
        return None if name in known else unknown_key(key, value, known, f"{group}.")
    return None if key in SETTABLE else unknown_key(key, value, SETTABLE)


def _problems(config: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the values, as far as their declared types and bounds say."""
    roots = {key: config[key] for key in SETTABLE}
    declared = get_type_hints(Settings)
    wrong = [Problem(key, why, value) for key, value in roots.items() if (why := mismatch(value, declared[key]))]
    problems = wrong + settings_problems(roots, wrong={problem.key for problem in wrong})
    for group in GROUPS:
        problems += check(group, config[group], provided=PROVIDED.get(group, ()))
    return problems


def _tell(notes: list[str], bar: EpochBar) -> None:
    for note in notes:
        bar.console.print(visible(redact(note)), markup=False)


def _say_epoch(result: EpochResult, epochs: int, bar: Any) -> None:
    """A line of the table of epochs, which stays where the bar goes."""
    line = f"epoch {result.epoch:>{len(str(epochs))}}/{epochs}  {_numbers(result)}"
    if bar.console.is_terminal:
        bar.console.print(line, markup=False, highlight=False)
    else:
        say(line)


def _numbers(result: EpochResult) -> str:
    shown = {"train/loss": ".4f", "val/loss": ".4f", "val/accuracy": ".4f", "lr": ".3g"}
    return "  ".join(f"{name} {result.metrics[name]:{how}}" for name, how in shown.items() if name in result.metrics)
