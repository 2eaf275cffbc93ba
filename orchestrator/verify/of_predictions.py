"""The stored predictions against what was logged, and against those of the other trials: recomputed with numpy alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.layout import PREDICTIONS
from orchestrator.base.records import State
from orchestrator.verify.evidence import TrialEvidence, header_state
from orchestrator.verify.rules import Finding

LOSS_TOLERANCE = 1e-5
LOSS_ROUNDING = 1e-6
"""float32 rounds the logarithm of the row sums: a loss near zero is exact to this much only."""

GPU_LOSS_TOLERANCE = 1e-3
GPU_ACCURACY_TOLERANCE = 2e-3
"""A GPU's sums depend on their order, which may differ between the last epoch's evaluation and that of the kept weights."""


@dataclass(frozen=True)
class Stored:
    """A predictions file: `{val,test}_{logits,ids,labels}` as numpy arrays, and what is written beside them."""

    arrays: Mapping[str, Any]
    state: Mapping[str, Any]

    def of(self, split: str) -> dict[str, Any] | None:
        """The three arrays of a split; None where one is missing."""
        found = {name: self.arrays.get(f"{split}_{name}") for name in ("logits", "ids", "labels")}
        return None if any(array is None for array in found.values()) else found


def recomputed_scores(trial: TrialEvidence) -> Iterator[Finding]:
    """Accuracy and loss follow from the stored predictions: validation's as of the best epoch, the test's as of the end."""
    stored = predictions(trial)
    if stored is None or trial.terminal is None:
        return
    best = trial.terminal.best_epoch
    at_best: Mapping[str, Any] = next((epoch["metrics"] for epoch in trial.epochs if epoch["epoch"] == best), {})
    on_gpu = float(trial.sweep.setting("gpus_per_trial", 0)) > 0
    for split, logged in (("val", at_best), ("test", trial.terminal.metrics)):
        arrays = stored.of(split)
        if arrays is None or len(arrays["logits"]) != len(arrays["labels"]) or not len(arrays["labels"]):
            yield Finding(f"the predictions lack logits or labels of {split}", "both, of every example")
            continue
        loss, correct = _scores(arrays["logits"], arrays["labels"])
        accuracy = correct / len(arrays["labels"])
        said_loss, said_accuracy = logged.get(f"{split}/loss"), logged.get(f"{split}/accuracy")
        if split == "test" and not math.isfinite(loss):
            if said_loss is not None:
                yield Finding(f"test/loss of the predictions is {loss}", f"{said_loss}, as logged")
            continue  # rightly left out, as is the accuracy of logits that are no numbers
        if not _near(accuracy, said_accuracy, 0.0, GPU_ACCURACY_TOLERANCE if on_gpu else 0.0):
            yield Finding(f"{split}/accuracy of the predictions is {accuracy}", f"{said_accuracy}, as logged")
        if not _near(loss, said_loss, GPU_LOSS_TOLERANCE if on_gpu else LOSS_TOLERANCE, LOSS_ROUNDING):
            yield Finding(f"{split}/loss of the predictions is {loss}", f"{said_loss}, as logged")


def _scores(logits_NK: Any, labels_N: Any) -> tuple[float, int]:
    """Mean cross-entropy, and how many rows have their largest logit at the label."""
    import numpy as np

    labels_N = np.clip(labels_N, 0, logits_NK.shape[1] - 1)
    with np.errstate(all="ignore"):
        shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
        log_sums_N = np.log(np.exp(shifted_NK).sum(axis=1))
        losses_N = log_sums_N - np.take_along_axis(shifted_NK, labels_N[:, None], axis=1)[:, 0]
        loss = float(losses_N.astype(np.float64).mean())
    return loss, int((logits_NK.argmax(axis=1) == labels_N).sum())


def _near(value: float, said: Any, relative: float, absolute: float) -> bool:
    return isinstance(said, int | float) and abs(value - said) <= max(relative * abs(said), absolute)


def predictions_fit(trial: TrialEvidence) -> Iterator[Finding]:
    """The predictions are of this trial and of the whole split, in the order and with the classes of the other trials'."""
    import numpy as np

    stored = predictions(trial)
    if stored is None:
        if trial.state is State.COMPLETED:
            yield Finding(f"{PREDICTIONS.name} cannot be read", "a safetensors file")
        return
    for key, expected in (
        ("uid", trial.uid_in_files),
        ("best_epoch", trial.terminal.best_epoch if trial.terminal else None),
    ):
        if stored.state.get(key) != expected:
            yield Finding(f"{PREDICTIONS.name} has {key} {stored.state.get(key)}", f"{expected}")
    classes = list(stored.state.get("classes") or ())
    facts = trial.sweep.plan.facts
    searched = any(key == "data" or key.startswith("data.") for key in trial.sweep.plan.space.keys)
    if not searched and facts.get("fingerprint") and stored.state.get("fingerprint") != facts["fingerprint"]:
        yield Finding(
            f"{PREDICTIONS.name} has data of fingerprint {stored.state.get('fingerprint')}", facts["fingerprint"]
        )
    order = hashlib.sha256()
    for split in ("val", "test"):
        arrays = stored.of(split)
        if arrays is None:
            yield Finding(f"{PREDICTIONS.name} lacks arrays of {split}", "logits, ids and labels")
            continue
        logits, ids, labels = arrays["logits"], arrays["ids"], arrays["labels"]
        rows = len(ids) if searched else facts.get(split, len(ids))
        if not (logits.shape == (rows, len(classes)) and ids.shape == labels.shape == (rows,)):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            yield Finding(f"{split} has {shapes}", f"{rows} rows of {len(classes)} classes")
            continue
        if len(np.unique(ids)) != rows:
            yield Finding(f"{split} has {rows - len(np.unique(ids))} ids twice", "each example once")
        logged = trial.terminal.metrics if trial.terminal else {}
        if split == "test" and not np.isfinite(logits).all() and "test/loss" not in logged:
            continue  # left out of the record, which says so
        if not np.isfinite(logits).all():
            yield Finding(f"{split} has {int((~np.isfinite(logits)).sum())} logits that are not finite", "finite ones")
            continue
        # Rows whose highest logit is 0 have probabilities that sum to 1, whatever their other logits.
        if shifted := int((logits.max(axis=1) != 0).sum()):
            yield Finding(f"{shifted} rows of {split} do not have 0 as highest logit", "all, so that rows sum to 1")
        order.update(ids.tobytes() + labels.tobytes())
    yield from _like_the_first(trial, order.hexdigest(), classes)


def _like_the_first(trial: TrialEvidence, order: str, classes: list[Any]) -> Iterator[Finding]:
    data = json.dumps(trial.suggested.config.get("data"), sort_keys=True)
    first = trial.sweep.memo.setdefault(f"order of {data}", (trial.index, order, classes))
    if first[1] != order:
        yield Finding("its ids or labels are in another order", f"that of trial {first[0]}")
    if first[2] != classes:
        yield Finding(f"its classes are {classes}", f"{first[2]}, as those of trial {first[0]}")


def predictions(trial: TrialEvidence) -> Stored | None:
    """The trial's predictions, read once; None where there are none, or none that can be read."""
    if "predictions" not in trial.sweep.memo or trial.sweep.memo["predictions"][0] != trial.index:
        trial.sweep.memo["predictions"] = (trial.index, _read_predictions(trial))
    stored: Stored | None = trial.sweep.memo["predictions"][1]
    return stored


def _read_predictions(trial: TrialEvidence) -> Stored | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    declared = [artifact["path"] for artifact in (trial.terminal.artifacts if trial.terminal else ())]
    paths = [trial.sweep.current_path(path) for path in declared if Path(path).name == PREDICTIONS.name]
    if not paths:
        return None
    try:
        return Stored(load(paths[0].read_bytes()), header_state(paths[0]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
