"""`orchestrator.load_model`: a trained model for a notebook or a program of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.groups import OF_MODEL
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.base.rights import granted
from orchestrator.base.upgrades import current_config
from orchestrator.config.plan import SweepPlan
from orchestrator.config.rights import check_recorded, read_user_rights, rights_of
from orchestrator.housekeeping.reading import TrialStory, find_trial, split_name
from orchestrator.housekeeping.showing import missing_weights
from orchestrator.journal.finding import runs_dir_option

if TYPE_CHECKING:
    from torch import nn

    from orchestrator.training.pretrained import KeptWeights


def load_model(
    name: str,
    runs_dir: str | Path = "runs",
    *,
    allowed_targets: Sequence[str] = (),
    import_paths: Sequence[str | Path] = (),
) -> nn.Module:
    """The model of the trial `NAME/7` with the weights of its best epoch, in evaluation mode, on the CPU.

    It takes images as they are after the trial's preprocessing. Of a trial that still runs it is the best so far.

    Args:
        allowed_targets: targets beyond the catalogue that the trial's configuration may name; what its journal allows itself
            counts for nothing. Those of your settings file are allowed, too.
        import_paths: the folders of their modules.

    Raises:
        ConfigError: there is no such trial, or it needs a target that is not allowed; the message says what to pass.
        NotReadyError: its weights are not there or damaged, or do not fit the code of today; the message says what to do.
    """
    story = find_trial(Path(runs_dir), name)
    rights = rights_of(allowed_targets, [str(path) for path in import_paths], Path.cwd()) | read_user_rights()
    config = current_config(story.trial.config)
    needed = {key: config[key] for key in ("model", *OF_MODEL, "transfer", "import_paths")}
    how = "allowed_targets={targets}, import_paths={folders} to load_model()"
    check_recorded(story.name, needed, rights, how=how)
    path = _weights_of(story)
    again = _train_again(story)
    from orchestrator.training.checkpoint import Damaged
    from orchestrator.training.restored import restored_model

    try:
        with granted(rights):
            return restored_model(config, path, uid=story.uid_in_files, facts=_facts(story))
    except Damaged as error:
        raise NotReadyError(f"{path} is damaged: {error}; this trains the trial again:  {again}") from error
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise NotReadyError(f"{path} does not fit the model, whose code must have changed ({why})") from error


def kept_weights(runs_dir: Path, name: str) -> KeptWeights:
    """The weights of the best epoch of the trial `NAME/7`, for other trials to begin with.

    Raises:
        ConfigError: there is no such trial.
        NotReadyError: its weights are not there, or damaged.
    """
    from orchestrator.training import checkpoint
    from orchestrator.training.pretrained import KeptWeights

    story = find_trial(runs_dir, name)
    path = _weights_of(story)
    try:
        checkpoint.load(path, uid=story.uid_in_files)
    except checkpoint.Damaged as error:
        again = _train_again(story)
        raise NotReadyError(f"{path} is damaged: {error}; this trains the trial again:  {again}") from error
    return KeptWeights(path.resolve(), story.name, current_config(story.trial.config))


def trial_weights(runs_dir: Path, name: str) -> Path | None:
    """The file with the weights of the best epoch of the trial `SWEEP-0a1b2c3d/7`; None where there is none."""
    sweep, index = split_name(name)
    path = trial_folder(runs_dir / sweep, index or 0) / BEST
    return path.resolve() if path.is_file() else None


def _weights_of(story: TrialStory) -> Path:
    """The file with the weights of a trial's best epoch.

    Raises:
        NotReadyError: there is none.
    """
    path = trial_folder(story.folder, story.trial.index) / BEST
    if not path.is_file():
        why = missing_weights(story)
        hint = f"; this trains it again and keeps them:  {_train_again(story)}" if why.startswith("not kept") else ""
        raise NotReadyError(f"the weights of {story.name} are not there ({why}){hint}")
    return path


def _train_again(story: TrialStory) -> str:
    return f"orchestrator train from={story.name}{runs_dir_option(story.folder)} --folder FOLDER"


def _facts(story: TrialStory) -> dict[str, Any]:
    """What the plan says of the data, where all trials have the same."""
    plan = SweepPlan.from_json(story.record.plan)
    searched = any(key.split(".")[0] == "data" for key in plan.space.keys)
    return {} if searched else dict(plan.facts)
