"""The winner of a comparison as a model in the comparison's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import MODEL, NETWORK
from orchestrator.base.removal import RefusedRemovalError, opened
from orchestrator.ensembles.pooling import Ensemble
from orchestrator.housekeeping.loading import weights_of
from orchestrator.housekeeping.reading import TrialStory, find_trial
from orchestrator.housekeeping.showing import missing_weights
from orchestrator.serving.ensemble import Member, write_ensemble

NAMED = 3
"""Members that are named of those that lack their weights."""


class NoWeightsError(NotReadyError):
    """The weights of members are not there."""


@dataclass(frozen=True)
class Made:
    """A network that a comparison made.

    Args:
        weights: its file; None for one of the trial.
        like: the name of a trial with the same network.
        evaluate: the spec by which it is asked; None asks as that trial.
        file: the name of the trial's file; None for that of its best epoch.
    """

    weights: bytes | None
    like: str
    evaluate: Mapping[str, Any] | None = None
    file: str | None = None

    def config_of(self, trial: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its configuration, by that of the trial."""
        return trial if self.evaluate is None else {**trial, "evaluate": self.evaluate}


NOTHING: Mapping[str, Made] = {}


def write_winner(
    folder: Path, names: Sequence[str], ensemble: Ensemble, *, time_ms: int, made: Mapping[str, Made] = NOTHING
) -> Path:
    """Writes an ensemble of trials into the folder of a comparison, and returns where.

    Args:
        names: of its members, `SWEEP-0a1b2c3d/7`, in the order of its weights.
        time_ms: when the comparison was made.
        made: by name, the members that are no trials; their weights are written into the folder of the comparison, too.

    Raises:
        ConfigError: there is no such trial in a sweep that is here.
        NoWeightsError: weights are not there: how many, the first of them, and why.
        NotReadyError: weights do not say how their images were preprocessed, or the folder cannot be written.
    """
    runs_dir = folder.absolute().parent.parent
    members: list[Member] = []
    lacking: dict[str, list[str]] = {}
    for name in names:
        own = made.get(name, Made(None, name))
        if own.weights is not None:
            trial = find_trial(runs_dir, own.like).trial
            members.append((name, _written(folder, own.weights), own.config_of(trial.config)))
            continue
        if not (runs_dir / own.like.rpartition("/")[0]).is_dir():
            lacking.setdefault(f"not in {runs_dir}", []).append(name)
            continue
        story = find_trial(runs_dir, own.like)
        try:
            weights = weights_of(story)
        except NotReadyError:
            lacking.setdefault(missing_weights(story), []).append(name)
            continue
        weights = weights if own.file is None else weights.with_name(own.file)
        if why := _damaged(weights, story):
            lacking.setdefault(why, []).append(name)
            continue
        members.append((name if name in made else story.name, weights, own.config_of(story.trial.config)))
    if lacking:
        raise NoWeightsError(_lacking(lacking, len(names)))
    write_ensemble(folder / MODEL, members, ensemble, name=folder.name, time_ms=time_ms)
    return folder / MODEL


def _damaged(weights: Path, story: TrialStory) -> str | None:
    """Why a file is not the weights that the trial wrote; None where it is."""
    from orchestrator.training import checkpoint

    try:
        checkpoint.load(weights, uid=story.uid_in_files)
    except checkpoint.Damaged as error:
        return f"damaged: {error}"
    return None


def _lacking(reasons: Mapping[str, Sequence[str]], members: int) -> str:
    count = sum(len(names) for names in reasons.values())
    parts = []
    for why, names in reasons.items():
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        parts.append(f"{', '.join(names[:NAMED])}{more}: {why}")
    of = f"{count:,} of its {members:,} members" if members > 1 else "its one member"
    return f"the weights of {of} are not there ({'; '.join(parts)})"


def _written(folder: Path, weights: bytes) -> Path:
    path = folder / NETWORK
    try:
        with opened(folder) as inside:
            inside.write(NETWORK, weights)
    except (OSError, RefusedRemovalError) as error:
        raise NotReadyError(f"{path} cannot be written ({getattr(error, 'strerror', None) or error})") from error
    return path
