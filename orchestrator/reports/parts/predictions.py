"""What the best single trial says of each validation image: its stored predictions, whose digest is in the journal."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.base.regular import read_regular
from orchestrator.reports.data import SweepData

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LARGEST = 400 * 2**20
"""Bytes of a file that is read; of ImageNet it has 200 MB."""

TRIED = 5
"""Trials, the best first, of which predictions are looked for: one that was stopped has none."""

# N validation examples, K classes


@dataclass(frozen=True)
class Predicted:
    """A trial on the validation images, with the weights of its best epoch.

    Args:
        ids: the rows of the data set.
        labels, said: true and predicted class of each; of equal probabilities the first class is said.
        confidence: the probability of what is said.
        classes: the names of the classes.
        fingerprint: of the data set and its split.
    """

    trial: int
    ids: Array
    labels: Array
    said: Array
    confidence: Array
    classes: tuple[str, ...]
    fingerprint: str


def best_predictions(sweep: SweepData) -> Predicted | None:
    """Those of the best trial that has some; None where there are none, or not those that the journal names."""
    ranked = sorted(
        (row for row in sweep.trials if row["rank"] is not None), key=lambda row: (row["rank"], row["trial"])
    )
    declared = [row["trial"] for row in ranked if sweep.record.trials[row["trial"]].artifacts]
    for index in declared[:TRIED]:
        digests = {
            file["sha256"]
            for file in sweep.record.trials[index].artifacts
            if Path(file["path"]).name == PREDICTIONS.name
        }
        if found := _read(trial_folder(sweep.folder, index) / PREDICTIONS, frozenset(digests), index):
            return found
    return None


@functools.lru_cache(maxsize=1)
def _read(path: Path, digests: frozenset[str], trial: int) -> Predicted | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        if os.stat(path).st_size > LARGEST:
            return None
        contents = read_regular(path)
        if hashlib.sha256(contents).hexdigest() not in digests:
            return None
        return _predicted(load(contents), _state(contents), trial)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _state(contents: bytes) -> Mapping[str, Any]:
    """What the file says beside its tensors."""
    length = int.from_bytes(contents[:8], "little")
    state = json.loads(json.loads(contents[8 : 8 + length])["__metadata__"]["state"])
    return state if isinstance(state, Mapping) else {}


def _predicted(arrays: Mapping[str, Array], state: Mapping[str, Any], trial: int) -> Predicted | None:
    import numpy as np

    logits_NK, ids_N, labels_N = (arrays[f"val_{name}"] for name in ("logits", "ids", "labels"))
    classes = state["classes"]
    if not isinstance(classes, list) or logits_NK.ndim != 2 or logits_NK.shape[1] != len(classes) or not logits_NK.size:
        return None
    if not ids_N.shape == labels_N.shape == logits_NK.shape[:1] or labels_N.min() < 0 or labels_N.max() >= len(classes):
        return None
    logits_NK = logits_NK.astype(np.float64)
    if not np.isfinite(logits_NK).all():
        return None
    said_N = logits_NK.argmax(axis=1)
    confidence_N = 1 / np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True)).sum(axis=1)
    names = tuple(map(str, classes))
    return Predicted(trial, ids_N, labels_N, said_N, confidence_N, names, str(state.get("fingerprint")))
