"""The winner of a comparison as a model in the comparison's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import MODEL
from orchestrator.ensembles.pooling import Ensemble
from orchestrator.housekeeping.loading import weights_of
from orchestrator.housekeeping.reading import find_trial
from orchestrator.serving.ensemble import Member, write_ensemble


def write_winner(folder: Path, names: Sequence[str], ensemble: Ensemble, *, time_ms: int) -> Path:
    """Writes an ensemble of trials into the folder of a comparison, and returns where.

    Args:
        names: of its members, `SWEEP-0a1b2c3d/7`, in the order of its weights.
        time_ms: when the comparison was made.

    Raises:
        ConfigError: there is no such trial in the folder of sweeps.
        NotReadyError: weights are not there (all that lack are named), do not say how their images were preprocessed, or the
            folder cannot be written.
    """
    runs_dir = folder.absolute().parent.parent
    members: list[Member] = []
    lacking: list[str] = []
    for name in names:
        story = find_trial(runs_dir, name)
        try:
            members.append((story.name, weights_of(story), story.trial.config))
        except NotReadyError as error:
            lacking.append(str(error))
    if lacking:
        raise NotReadyError("; ".join(lacking))
    write_ensemble(folder / MODEL, members, ensemble, name=folder.name, time_ms=time_ms)
    return folder / MODEL
