"""Every file and folder of a sweep, by name: what the driver, the workers, the tracker and the readers agree on.

runs/<sweep>/journal.sqlite                      every decision, in order
runs/<sweep>/lock                                held by the driver
runs/<sweep>/stop                                asks the driver to end
runs/<sweep>/tune/                               scratch of Ray Tune, gone when the driver ends
runs/<sweep>/tracking/                           cursor, lock and log of the tracker
runs/<sweep>/trials/00007/                       one trial:
    checkpoint-<epoch>.<sha256>.safetensors      the newest two, until the trial ends
    best.safetensors                             weights of the best epoch
    attempt                                      the fence of the newest attempt
    heartbeat                                    touched while the trial computes
    artifacts/predictions.safetensors            logits of the validation and test examples
"""

from __future__ import annotations

from pathlib import Path

JOURNAL = "journal.sqlite"
LOCK = "lock"
STOP = "stop"
TUNE = "tune"

TRACKING = "tracking"
CURSOR = "cursor.json"
TRACKER_LOG = "shipper.log"

TRIALS = "trials"
CHECKPOINT = "checkpoint-"
"""How the names of checkpoints begin."""

BEST = "best.safetensors"
FENCE = "attempt"
HEARTBEAT = "heartbeat"
ARTIFACTS = "artifacts"
PREDICTIONS = Path(ARTIFACTS, "predictions.safetensors")
"""Below a trial's folder."""


def trial_folder(sweep_folder: Path, index: int) -> Path:
    """Where a trial keeps its files."""
    return sweep_folder / TRIALS / f"{index:05d}"
