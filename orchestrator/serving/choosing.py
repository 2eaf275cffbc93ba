"""Which trial of a sweep is served, and what is to be known of its data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.journal.record import SweepRecord

FITTED = "orchestrator.training.data.folder.image_folder"
"""The data set that brings images of any size to one, if it is told which."""


def crops(data: Mapping[str, Any]) -> bool:
    """Whether a data set scales and crops its own images."""
    return data.get("_target_") == FITTED and data.get("image_size") is not None


def best_trial(folder: Path, record: SweepRecord) -> int:
    """The trial that stands for the best configuration: the first of its seeds whose weights are kept, or the first.

    Raises:
        NotReadyError: no trial has a value yet.
    """
    best = record.scores.best if record.scores else None
    if best is None:
        raise NotReadyError(f"{folder.name} has no best trial yet; name one of its trials: {folder.name}/0")
    trials = sorted(best.trials)
    return next((index for index in trials if (trial_folder(folder, index) / BEST).is_file()), trials[0])
