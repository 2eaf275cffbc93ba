"""Every file and folder of a sweep, by name: what the driver, the workers, the tracker and the readers agree on.

runs/mlflow.db, runs/artifacts/                  the local MLflow store of all sweeps in the folder
runs/store.json                                  the identity that the folder shares with its MLflow store, and where it lay last
runs/adopting.json                               what a copy is being given for an identity; gone when it has it
runs/comparisons/<comparison>/                   what `compare` found: comparison.json, comparison.html;
    model/                                       its winner as a model
    network.safetensors                          weights of the winner, where they are the average of other networks
    shipping.json, shipping.lock                 the MLflow store that it is for, and whether that has it
runs/<sweep>/journal.sqlite                      every decision, in order; SQLite keeps files of its own beside it
runs/<sweep>/sweep.json                          says that the folder is this sweep's; nothing is deleted without it
runs/<sweep>/lock                                held by the driver
runs/<sweep>/stop                                asks the driver to end
runs/<sweep>/tune/                               scratch of Ray Tune, gone when the driver ends
runs/<sweep>/tracking/                           cursor.json, lock and shipper.log of the tracker
runs/<sweep>/published/                          what MLflow shows of the sweep as a whole; the last version counts:
    report-<n>.html                              the report
    model-<n>/                                   the best trial as a model; its weights are a second name of the trial's
runs/<sweep>/trials/00007/                       one trial:
    checkpoint-<epoch>.<sha256>.safetensors      the newest two, until the trial ends
    best.safetensors                             weights of the best epoch
    average.safetensors                          weights averaged over the last epochs, where `average_from` asks for them
    snapshot-<n>.safetensors                     weights at the end of the n-th cycle, where `snapshots` asks for them
    attempt                                      the fence of the newest attempt
    heartbeat                                    touched while the trial computes
    artifacts/predictions.safetensors            logits of the validation and test examples

A file that is not whole yet ends in `.tmp`. The artifacts of an MLflow run are `config.yaml`, `error.txt` of
one that failed, and what its trial declares.
"""

from __future__ import annotations

import re
from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
"""The catalogue: one folder a group, one YAML a choice."""

MLFLOW_DATABASE = "mlflow.db"
MLFLOW_ARTIFACTS = "artifacts"
"""In a folder of sweeps."""

STORE_MARK = "store.json"
ADOPTING = "adopting.json"

JOURNAL = "journal.sqlite"
JOURNAL_COMPANIONS = tuple(f"{JOURNAL}{suffix}" for suffix in ("-wal", "-shm", "-journal"))
"""What SQLite keeps beside the journal while it is open, or after a kill."""

SWEEP_MARK = "sweep.json"
"""Names the sweep whose folder this is. Sweeps of earlier versions have the first event of their journal instead."""

UID = re.compile(r"[a-z0-9][a-z0-9_.-]*-[0-9a-f]{8}")
"""The name of a sweep's folder."""

COMPARISONS = "comparisons"
COMPARISON = "comparison.json"
COMPARISON_PAGE = "comparison.html"
MODEL = "model"
NETWORK = "network.safetensors"
FINISHING = "finishing.json"
SHIPPING = "shipping.json"
SHIPPING_LOCK = "shipping.lock"
"""In the folder of sweeps, and in there in the folder of a comparison, which is named as a sweep's."""

LOCK = "lock"
STOP = "stop"
TUNE = "tune"

TRACKING = "tracking"
CURSOR = "cursor.json"
TRACKER_LOCK = "lock"
TRACKER_LOG = "shipper.log"
"""The last three in the folder `TRACKING`."""

PUBLISHED = "published"
VERSION = re.compile(r"(?:report-(\d+)\.html(?:\.tmp)?|model-(\d+)|diagnosis-\d+\.html(?:\.tmp)?)")
"""The name of a version in there; the number is one more than any before, but for a diagnosis, which has that of its trial."""

TRIALS = "trials"
CHECKPOINT = "checkpoint-"
"""How the names of checkpoints begin."""

CHECKPOINT_NAME = re.compile(rf"{CHECKPOINT}(\d+)\.([0-9a-f]{{64}})\.safetensors")
"""The name of a checkpoint: its epoch, and the SHA-256 of its contents."""

BEST = "best.safetensors"
AVERAGE = "average.safetensors"
SNAPSHOT = re.compile(r"snapshot-(\d{1,4})\.safetensors")
"""The name of a snapshot; the first is 1."""

FENCE = "attempt"
HEARTBEAT = "heartbeat"
ARTIFACTS = "artifacts"
PREDICTIONS = Path(ARTIFACTS, "predictions.safetensors")
"""These and the snapshots below a trial's folder."""

TEMPORARY = ".tmp"
"""How the name of a file ends that is not whole yet."""

UNFINISHED = re.compile(
    rf"({CHECKPOINT}\d+\.[0-9a-f]{{64}}\.safetensors|{re.escape(BEST)}|{re.escape(AVERAGE)}|{SNAPSHOT.pattern}|{re.escape(PREDICTIONS.name)}|{FENCE})"
    rf"(\.\d+)?{re.escape(TEMPORARY)}"
)
"""The name of a file of a trial that a killed worker left half written; the number is of the worker's process."""

RUN_CONFIG = "config.yaml"
RUN_ERROR = "error.txt"
"""Artifacts of an MLflow run that no event declares."""


def snapshot(number: int) -> str:
    """The name of the file of a trial's n-th snapshot, from 1."""
    return f"snapshot-{number}.safetensors"


def trial_folder(sweep_folder: Path, index: int) -> Path:
    """Where a trial keeps its files."""
    return sweep_folder / TRIALS / f"{index:05d}"


def diagnosis_page(index: int) -> str:
    """The name in `published/` of the figures of a trial."""
    return f"diagnosis-{index}.html"


def sweep_of(trial: Path) -> Path | None:
    """The folder of the sweep that a trial's folder belongs to; None of a folder that is laid out otherwise."""
    return trial.parent.parent if trial.parent.name == TRIALS and re.fullmatch(r"\d{5,}", trial.name) else None


def trial_index(path: Path) -> int | None:
    """The trial in whose folder a file lies; None where it lies elsewhere.

    Args:
        path: of the file, below the sweep's folder.
    """
    inside = len(path.parts) > 2 and path.parts[0] == TRIALS and re.fullmatch(r"\d{5,}", path.parts[1])
    return int(path.parts[1]) if inside else None
