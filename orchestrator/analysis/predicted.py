"""The validation predictions that a sweep's trials keep, read strictly: a file counts if it is the one that the journal names."""

from __future__ import annotations

from pathlib import Path

from orchestrator.analysis.pooled import NoMemberError, Predicted, Predictions
from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.base.pooling import softmax
from orchestrator.base.stored_predictions import UnfitError, examples, logits, parse_header, read_whole
from orchestrator.journal.record import SweepRecord, TrialRecord


def predictions_in(folder: Path, record: SweepRecord) -> Predictions:
    """Reads a trial's predictions when it is called, and nothing before.

    Args:
        folder: of the sweep.
    """

    def read(trial: TrialRecord) -> Predicted:
        digests = [file["sha256"] for file in trial.artifacts if Path(file["path"]).name == PREDICTIONS.name]
        if not digests:
            raise NoMemberError(f"trial {trial.index} has no predictions")
        try:
            path = trial_folder(folder, trial.index) / PREDICTIONS
            return _read(path, digests[-1], f"{record.opened.uid_in_files}/{trial.index}")
        except UnfitError as error:
            raise NoMemberError(f"trial {trial.index} cannot be a member: {error}") from error

    return read


def _read(path: Path, sha256: str, uid: str) -> Predicted:
    """
    Raises:
        UnfitError: it is not the file that the journal names, not of this trial, or not what such a file holds.
    """
    import numpy as np

    contents = read_whole(path, sha256)
    header = parse_header(contents)
    if header.uid != uid:
        raise UnfitError("its predictions are of another trial")
    labels_N, ids_N = examples(contents, header, "val")
    logits_NK = np.empty((len(labels_N), len(header.classes)), np.float32)
    logits(contents, header, "val", logits_NK)
    return Predicted(softmax(logits_NK, "float64"), labels_N, ids_N, header.classes, header.fingerprint)
