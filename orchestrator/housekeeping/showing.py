"""Everything that is known of one trial: `orchestrator show NAME/7`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.analysis.divergence import divergence_advice, divergence_words, good_rates
from orchestrator.analysis.health import health_words
from orchestrator.base.layout import BEST, CHECKPOINT, trial_folder
from orchestrator.base.recorded import read_plan
from orchestrator.base.records import State
from orchestrator.config.rights import retyped_for
from orchestrator.housekeeping.commands import request_of, searched_keys, train_command
from orchestrator.housekeeping.disk import disk_use, size
from orchestrator.housekeeping.overview import NOT_TRACKED, block, is_tracked, plan_settings, when
from orchestrator.housekeeping.reading import TrialStory
from orchestrator.journal.finding import runs_dir_option
from orchestrator.journal.place import located_file
from orchestrator.journal.record import read_sweep
from orchestrator.stores.opening import local_run, store_settings


def trial_lines(story: TrialStory) -> list[str]:
    """The trial's configuration as commands, how it went, and where its files are."""
    trial, config = story.trial, story.trial.config
    rows = [("trial", story.name), ("state", _state(story)), ("seed", _seed(story))]
    if trial.value is not None:
        rows.append(("value", f"{config['metric']} {trial.value} at epoch {trial.best_epoch}"))
    rows.append(("epochs", f"{trial.epoch} of {config['epochs']}"))
    if trial.metrics:
        rows.append(("test", "  ".join(f"{name} {value}" for name, value in trial.metrics.items())))
    rows += [
        ("searched", "\n".join(f"{key}={value}" for key, value in trial.params.items()) or "nothing"),
        ("attempts", "\n".join(_attempts(story)) or "none"),
        *([("computed on", _ran_on(trial.ran_on))] if trial.ran_on else []),
        *([("init health", health_words(trial.init_health))] if trial.init_health else []),
        *([("diverged", divergence_words(trial.divergence, trial.reason))] if trial.divergence else []),
        *([("try", "\n".join(_advice(story)))] if trial.divergence else []),
        *_files(story),
        *([("look inside", _diagnose(story))] if config.get("diagnostics") else []),
        ("MLflow", _mlflow(story)),
        ("again", "\n".join(commands(story))),
    ]
    if trial.notes:
        rows.append(("notes", "\n".join(trial.notes)))
    if trial.error:
        rows.append(("error", trial.error.strip()))
    return block(rows)


def _advice(story: TrialStory) -> list[str]:
    """What to try, from the other trials of its sweep too."""
    return divergence_advice(story.trial, good_rates(read_sweep(story.folder).trials.values()))


def commands(story: TrialStory) -> list[str]:
    """The commands that do the trial again: from the journal, and from today's files."""
    found = [f"orchestrator train from={story.name}{runs_dir_option(story.folder)}{_rights(story)}"]
    if request := request_of(story.begun_by):
        found.append(train_command(request, story.trial, searched_keys(story.begun_by.plan)))
    return found


def _diagnose(story: TrialStory) -> str:
    """The command for what no metric of an epoch holds: histograms, classes, filters."""
    kept = (trial_folder(story.folder, story.trial.index) / BEST).is_file()
    initial = "" if kept else " --initial"
    return f"orchestrator diagnose from={story.name}{runs_dir_option(story.folder)}{initial}{_rights(story)}"


def _rights(story: TrialStory) -> str:
    return retyped_for(read_plan(story.begun_by.plan)) if story.begun_by.plan else ""


def _state(story: TrialStory) -> str:
    trial = story.trial
    if not trial.ended:
        return "under way" if trial.started else "not begun" if not trial.attempts else "interrupted"
    return f"{trial.state} ({trial.reason})" if trial.reason and trial.reason != trial.state else str(trial.state)


def _seed(story: TrialStory) -> str:
    trial = story.trial
    repeats = int(plan_settings(story.record).get("repeat") or 1)
    repeats = max(repeats, story.record.repeats_of.get(trial.config_index, 0))
    text = f"{trial.config['seed']}"
    return text + (
        f", repeat {trial.repeat + 1} of {repeats} of configuration {trial.config_index}" if repeats > 1 else ""
    )


def _attempts(story: TrialStory) -> list[str]:
    return [f"{one.number}: begun {when(one.began_ms)}, {one.ended or 'under way'}" for one in story.attempts]


def _ran_on(what: Mapping[str, Any]) -> str:
    """What `device=auto` and `precision=auto` became, and what else decides about the last digits."""
    threads = f"{what.get('threads')} threads"
    shown = (
        what.get("device"),
        what.get("precision"),
        what.get("cpu_capability"),
        threads,
        f"torch {what.get('torch')}",
    )
    return ", ".join(str(word) for word in shown)


def _files(story: TrialStory) -> list[tuple[str, str]]:
    folder = trial_folder(story.folder, story.trial.index)
    checkpoints = sorted(folder.glob(f"{CHECKPOINT}*.safetensors")) if folder.is_dir() else []
    rows = [("folder", f"{folder}  ({size(disk_use(folder).total)})"), ("weights", _weights(story, folder))]
    if checkpoints:
        rows.append(("checkpoints", "\n".join(_sized(path) for path in checkpoints)))
    rows += [("predictions", str(_located(story, artifact["path"]))) for artifact in story.trial.artifacts]
    return rows


def _located(story: TrialStory, path: str) -> Path:
    return located_file(path, story.folder, story.record.opened)


def _weights(story: TrialStory, folder: Path) -> str:
    path = folder / BEST
    return _sized(path) if path.is_file() else missing_weights(story)


def missing_weights(story: TrialStory) -> str:
    """Why a trial has no weights."""
    trial = story.trial
    path = trial_folder(story.folder, trial.index) / BEST
    if path.is_symlink() and not path.exists():
        return f"{path} is a link that leads nowhere"
    if path.exists():
        return f"{path} is no regular file"
    if trial.state in (State.DIVERGED, State.INFEASIBLE, State.FAILED):
        return f"none: the trial is {trial.state}"
    if trial.value is None:
        return "none: no epoch was recorded" if trial.ended else "none: no epoch is recorded yet"
    if not trial.ended:
        return "not there, though epochs are recorded; the trial makes them again when the sweep is resumed"
    keep = plan_settings(story.record).get("keep_weights")
    return f"not kept: its configuration is not among the best {keep} (keep_weights)"


def _sized(path: Path) -> str:
    try:
        return f"{path}  ({size(path.stat().st_size)})"
    except OSError:
        return str(path)


def _mlflow(story: TrialStory) -> str:
    if not is_tracked(story.record.opening, story.folder):
        return NOT_TRACKED
    settings: Mapping[str, Any] = store_settings(story.record.opened, story.folder)
    run = local_run(settings, story.name)
    return f"run {run} in {settings['uri']}" if run else f"the run with the tag trial_uid={story.name}"
