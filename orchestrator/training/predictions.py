"""The predictions of a finished trial: one file from which its scores, and every prediction ensemble, can be computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from orchestrator.base.decode import COUNT
from orchestrator.base.layout import PREDICTIONS
from orchestrator.base.records import EpochResult, InitHealth
from orchestrator.training import checkpoint


@dataclass(frozen=True)
class Outcome:
    """What a finished trial leaves.

    Args:
        metrics: of the test, with the best epoch's weights (`test/loss`, ...); those that are not finite are left out.
        artifacts: `{"path", "sha256"}` of each file made.
        best_epoch: from 1.
        reason: what was left out, and why.
        init_health: of the weights that the trial began with.
    """

    metrics: Mapping[str, float]
    artifacts: Sequence[Mapping[str, str]]
    best_epoch: int
    reason: str | None = None
    init_health: InitHealth | None = None


@dataclass(frozen=True)
class Predictions:
    """Logits with the maximum of each row subtracted (float32 [N, K]), ids and labels (int64 [N]) of two splits.

    Args:
        tensors: `val_logits`, `val_ids`, `val_labels`, and the same for `test`.
        state: `uid`, `fingerprint` of the data and split, `classes` in the order of the columns, `best_epoch`, `best_value`,
            `metrics` of the test, `reason` and `init_health` as in `Outcome`, `history` of the epochs.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


class PredictionsState(TypedDict):
    """What the file says beside its tensors, see `Predictions`."""

    uid: str
    fingerprint: str
    classes: Sequence[str]
    best_epoch: Annotated[int, COUNT]
    best_value: float
    metrics: Mapping[str, float]
    history: Sequence[checkpoint.Result]
    reason: NotRequired[str | None]
    init_health: NotRequired[InitHealth | None]


def pack(predictions: Predictions) -> bytes:
    """The file of the predictions, as `read` takes it."""
    return checkpoint.pack(predictions.tensors, predictions.state, stamp=True)


def read(path: Path, *, uid: str | None = None) -> Predictions:
    """The predictions in a file, of any trial or of trial `uid`.

    Raises:
        checkpoint.Damaged: not a whole, unchanged file, or of another trial.
    """
    try:
        loaded = checkpoint.load(path, uid=uid, shape=PredictionsState)
    except checkpoint.Damaged as error:
        raise checkpoint.Damaged(f"the predictions in {path} cannot be used: {error}") from error
    return Predictions(loaded.tensors, loaded.state)


def recover_outcome(folder: Path | str, uid: str) -> tuple[list[EpochResult], Outcome] | None:
    """History and outcome of a trial that had finished when its worker died; None where it had not, or its file is damaged."""
    path = Path(folder) / PREDICTIONS
    try:
        contents = path.read_bytes()
        state = read(path, uid=uid).state
    except (OSError, checkpoint.Damaged):
        return None
    artifact = {"path": str(path), "sha256": hashlib.sha256(contents).hexdigest()}
    outcome = Outcome(state["metrics"], [artifact], state["best_epoch"], state.get("reason"), state.get("init_health"))
    return history_from_json(state["history"]), outcome


def history_to_json(history: Sequence[EpochResult]) -> list[list[Any]]:
    """The epochs as lists, which JSON keeps exactly."""
    return [[result.epoch, result.time_ms, dict(result.metrics)] for result in history]


def history_from_json(rows: Sequence[Sequence[Any]]) -> list[EpochResult]:
    """The epochs that `history_to_json` wrote."""
    return [EpochResult(epoch, time_ms, metrics) for epoch, time_ms, metrics in rows]


def split_tensors(name: str, logits_NK: Tensor, ids: np.ndarray[Any, Any], labels_N: Tensor) -> dict[str, Tensor]:
    """The three tensors of one split under their names in the file."""
    return {
        f"{name}_logits": logits_NK.cpu(),
        f"{name}_ids": torch.from_numpy(ids),
        f"{name}_labels": labels_N.cpu(),
    }
