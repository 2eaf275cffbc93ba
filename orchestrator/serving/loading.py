"""`orchestrator.load_model`: a trained model for a notebook or a program of one's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.groups import SEARCHABLE_ARGUMENTS
from orchestrator.base.layout import MODEL, PREDICTIONS, trial_folder
from orchestrator.base.rights import Rights, granted
from orchestrator.base.upgrades import current_config
from orchestrator.config.plan import SweepPlan
from orchestrator.config.rights import check_recorded, read_user_rights, rights_of
from orchestrator.housekeeping.comparisons import find_comparison, nearest_of_all, why_no_model
from orchestrator.housekeeping.loading import train_again, weights_of
from orchestrator.housekeeping.reading import TrialStory, find_trial, read_trial, split_name
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep
from orchestrator.serving.choosing import best_trial, crops
from orchestrator.serving.mlmodel import DATA, MLMODEL, network_of
from orchestrator.stores.registry import fetched, is_address

if TYPE_CHECKING:
    from orchestrator.serving.pooled import EnsemblePredictor
    from orchestrator.serving.predictor import Predictor

IN_PYTHON = "allowed_targets={targets}, import_paths={folders} to load_model()"


def load_model(
    name: str,
    runs_dir: str | Path = "runs",
    *,
    allowed_targets: Sequence[str] = (),
    import_paths: Sequence[str | Path] = (),
) -> Predictor | EnsemblePredictor:
    """The trial `NAME/7`, or the best one of the sweep `NAME`, with the weights of its best epoch, on the CPU.

    `predict(images)` of what is returned gives classes and probabilities; `network` is the bare module, which takes images after
    the trial's preprocessing. Of a trial that still runs it is the best epoch so far.

    The name of a comparison gives its winner; a folder with a model, or an address of MLflow (`models:/NAME@champion`,
    `runs:/RUN/model`), that model. An ensemble has no single `network`, but `members`.

    Args:
        allowed_targets: targets beyond the catalogue that the trial's configuration may name; what its journal allows itself
            counts for nothing. Those of your settings file are allowed, too.
        import_paths: the folders of their modules.

    Raises:
        ConfigError: there is no such model, or it needs a target that is not allowed; the message says what to pass.
        NotReadyError: its weights are not there or damaged, or do not fit the code of today; the message says what to do.
    """
    if not isinstance(name, str):
        raise ConfigError(Problem("NAME", 'must be "NAME" or "NAME/7", as orchestrator status lists them', name))
    rights = rights_of(allowed_targets, [str(path) for path in import_paths], Path.cwd()) | read_user_rights()
    return load(name, Path(runs_dir), rights, how=IN_PYTHON)


def load(name: str, runs_dir: Path, rights: Rights, *, how: str) -> Predictor | EnsemblePredictor:
    """As `load_model`.

    Args:
        how: what to pass where rights lack, as for `check_recorded`.
    """
    if is_address(name):
        with fetched(name, runs_dir) as folder:
            return load_written(folder, rights)
    if (written := _written(Path(os.path.expanduser(name)))) is not None:
        return load_written(written, rights)
    comparison = None if "/" in name else find_comparison(runs_dir, name)
    if comparison is not None:
        if (written := _written(comparison)) is None:
            raise NotReadyError(f"the comparison {comparison.name} holds no model: {why_no_model(comparison)}")
        return load_written(written, rights)
    return _load_trial(_find(runs_dir, name), rights, how=how)


def load_written(folder: Path, rights: Rights) -> Predictor | EnsemblePredictor:
    """The model in a folder that has an `MLmodel`, a single one or an ensemble.

    Raises:
        ConfigError, NotReadyError: as for `load_model`.
    """
    from orchestrator.serving.pooled import is_ensemble, load_ensemble
    from orchestrator.serving.pyfunc import load_folder

    data = folder / DATA
    return load_ensemble(data, rights) if is_ensemble(data) else load_folder(data, rights)


def _written(folder: Path) -> Path | None:
    """Where a model lies in a folder: there, or, of a comparison's folder, below; None where there is none."""
    return next((path for path in (folder, folder / MODEL) if os.path.isfile(path / MLMODEL)), None)


def _load_trial(story: TrialStory, rights: Rights, *, how: str) -> Predictor:
    config = current_config(story.trial.config)
    check_recorded(
        story.name,
        network_of(config) | {"import_paths": config["import_paths"]},
        rights,
        how=how,
    )
    path = weights_of(story)
    from orchestrator.serving.predictor import Predictor
    from orchestrator.training.checkpoint import Damaged
    from orchestrator.training.restored import restored

    try:
        with granted(rights):
            found = restored(config, path, uid=story.uid_in_files, facts=_facts(story))
    except Damaged as error:
        again = train_again(story)
        raise NotReadyError(f"{path} is damaged: {error}; this trains the trial again:  {again}") from error
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise NotReadyError(f"{path} does not fit the model, whose code must have changed ({why})") from error
    return Predictor(story.name, found, crops=crops(config["data"]), described=_described(story))


def _find(runs_dir: Path, text: str) -> TrialStory:
    name, index = split_name(text)
    if index is not None:
        return find_trial(runs_dir, text)
    try:
        folder = find_sweep(runs_dir, name).absolute()
    except ConfigError as error:
        near = nearest_of_all(runs_dir, name)
        raise ConfigError([replace(one, nearest=near) for one in error.problems]) from error
    return read_trial(folder, best_trial(folder, read_sweep(folder)))


def _described(story: TrialStory) -> str:
    """The trial in a line: what was searched, and how good it is."""
    trial = story.trial
    words = [f"{key}={value}" for key, value in trial.params.items()]
    if trial.value is not None:
        words.append(f"({trial.config['metric']} {trial.value:.4f} at epoch {trial.best_epoch})")
    return " ".join(words)[:500]


def _facts(story: TrialStory) -> dict[str, Any]:
    """What the plan says of the data, where all trials have the same, and what the trial's predictions do."""
    plan = SweepPlan.from_json(story.record.plan)
    searched = any(key.split(".")[0] == "data" and key not in SEARCHABLE_ARGUMENTS for key in plan.space.keys)
    facts = {} if searched else dict(plan.facts)
    from orchestrator.training import predictions
    from orchestrator.training.checkpoint import Damaged

    path = trial_folder(story.folder, story.trial.index) / PREDICTIONS
    with contextlib.suppress(Damaged):
        state = predictions.read(path, uid=story.uid_in_files).state
        facts |= {"fingerprint": state["fingerprint"], "classes": state["classes"]}
    return facts
