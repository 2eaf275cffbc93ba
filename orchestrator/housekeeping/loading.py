"""Where the weights of a trial are, for other trials to begin with and for `load_model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.base.upgrades import current_config
from orchestrator.housekeeping.reading import TrialStory, find_trial, split_name
from orchestrator.housekeeping.showing import missing_weights
from orchestrator.journal.finding import runs_dir_option

if TYPE_CHECKING:
    from orchestrator.training.pretrained import KeptWeights


def kept_weights(runs_dir: Path, name: str) -> KeptWeights:
    """The weights of the best epoch of the trial `NAME/7`, for other trials to begin with.

    Raises:
        ConfigError: there is no such trial.
        NotReadyError: its weights are not there, or damaged.
    """
    from orchestrator.training import checkpoint
    from orchestrator.training.pretrained import KeptWeights

    story = find_trial(runs_dir, name)
    path = weights_of(story)
    try:
        checkpoint.load(path, uid=story.uid_in_files)
    except checkpoint.Damaged as error:
        again = train_again(story)
        raise NotReadyError(f"{path} is damaged: {error}; this trains the trial again:  {again}") from error
    return KeptWeights(path.resolve(), story.name, current_config(story.trial.config))


def trial_weights(runs_dir: Path, name: str) -> Path | None:
    """The file with the weights of the best epoch of the trial `SWEEP-0a1b2c3d/7`; None where there is none."""
    sweep, index = split_name(name)
    path = trial_folder(runs_dir / sweep, index or 0) / BEST
    return path.resolve() if path.is_file() else None


def weights_of(story: TrialStory) -> Path:
    """The file with the weights of a trial's best epoch.

    Raises:
        NotReadyError: there is none.
    """
    path = trial_folder(story.folder, story.trial.index) / BEST
    if not path.is_file():
        why = missing_weights(story)
        hint = f"; this trains it again and keeps them:  {train_again(story)}" if why.startswith("not kept") else ""
        raise NotReadyError(f"the weights of {story.name} are not there ({why}){hint}")
    return path


def train_again(story: TrialStory) -> str:
    """The command that trains a trial again and keeps its weights."""
    return f"orchestrator train from={story.name}{runs_dir_option(story.folder)} --folder FOLDER"
