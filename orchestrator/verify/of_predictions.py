"""The stored predictions against what was logged, and against those of the other trials: recomputed with numpy alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.groups import SEARCHABLE_ARGUMENTS
from orchestrator.base.layout import PREDICTIONS
from orchestrator.base.records import State
from orchestrator.base.regular import read_regular
from orchestrator.journal.events import Reported
from orchestrator.verify.data_split import own_split
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
    """Every metric follows from the stored predictions: validation's as of the best epoch, the test's as of the end."""
    stored = predictions(trial)
    if stored is None or trial.terminal is None:
        return
    best = trial.terminal.best_epoch
    at_best: Mapping[str, Any] = next((epoch["metrics"] for epoch in trial.epochs if epoch["epoch"] == best), {})
    on_gpu = float(trial.sweep.setting("gpus_per_trial", 0) or 0) > 0
    for split, logged in (("val", at_best), ("test", trial.terminal.metrics)):
        arrays = stored.of(split)
        if arrays is None or len(arrays["logits"]) != len(arrays["labels"]) or not len(arrays["labels"]):
            yield Finding(f"the predictions lack logits or labels of {split}", "both, of every example")
            continue
        scores = _scores(arrays["logits"], arrays["labels"])
        if split == "test" and not math.isfinite(scores["loss"]):
            if logged.get("test/loss") is not None:
                yield Finding(f"test/loss of the predictions is {scores['loss']}", f"{logged['test/loss']}, as logged")
            continue  # rightly left out, as is the accuracy of logits that are no numbers
        for name, value in scores.items():
            said = logged.get(f"{split}/{name}")
            if said is None and name not in ("loss", "accuracy"):
                continue  # a version that did not compute it
            if name in ("loss", "nll"):
                near = _near(value, said, GPU_LOSS_TOLERANCE if on_gpu else LOSS_TOLERANCE, LOSS_ROUNDING)
            else:
                near = _near(value, said, 0.0, GPU_ACCURACY_TOLERANCE if on_gpu else 0.0)
            if not near:
                yield Finding(f"{split}/{name} of the predictions is {value}", f"{said}, as logged")


def _scores(logits_NK: Any, labels_N: Any) -> dict[str, float]:
    """Mean cross-entropy under both of its names, and the shares of rows with the label first or among the first five.

    Of equal logits the first one counts as the larger.
    """
    import numpy as np

    examples, classes = logits_NK.shape
    labels_N = np.clip(labels_N, 0, classes - 1)
    with np.errstate(all="ignore"):
        shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
        log_sums_N = np.log(np.exp(shifted_NK).sum(axis=1))
        losses_N = log_sums_N - np.take_along_axis(shifted_NK, labels_N[:, None], axis=1)[:, 0]
        loss = float(losses_N.astype(np.float64).mean())
    ranks_N = (np.argsort(-logits_NK, axis=1, kind="stable") == labels_N[:, None]).argmax(axis=1)
    return {
        "loss": loss,
        "accuracy": int((ranks_N == 0).sum()) / examples,
        "top5_accuracy": int((ranks_N < 5).sum()) / examples,
        "nll": loss,
    }


def _near(value: float, said: Any, relative: float, absolute: float) -> bool:
    return isinstance(said, int | float) and abs(value - said) <= max(relative * abs(said), absolute)


def predictions_fit(trial: TrialEvidence) -> Iterator[Finding]:
    """The predictions are of this trial and of the whole split, in the order of its ids, which are those of the data set's split.

    They have the classes of the other trials', and say of themselves what the journal says of them.
    """
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
    yield from _header_fits(trial, stored.state)
    classes = list(stored.state.get("classes") or ())
    facts = trial.sweep.plan.facts
    decide_data = [key for key in trial.sweep.plan.space.keys if key not in SEARCHABLE_ARGUMENTS]
    searched = any(key == "data" or key.startswith("data.") for key in decide_data)
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
        elif (np.diff(ids) < 0).any():
            yield Finding(f"the ids of {split} are in another order", "ascending")
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
    yield from _of_its_split(trial, stored)


def _header_fits(trial: TrialEvidence, state: Mapping[str, Any]) -> Iterator[Finding]:
    """What the file says of the trial beside its arrays; times and speeds of an epoch that was trained again are its own."""
    if trial.terminal is None:
        return
    end = trial.terminal
    if state.get("metrics") != end.metrics:
        yield Finding(f"{PREDICTIONS.name} has the metrics {state.get('metrics')}", f"{end.metrics}")
    if state.get("best_value") != end.value:
        yield Finding(f"{PREDICTIONS.name} has best_value {state.get('best_value')}", f"{end.value}")
    again = any(entry.event.notes for entry in trial.of(Reported) if isinstance(entry.event, Reported))
    history = state.get("history")
    reported = [[epoch["epoch"], epoch["time_ms"], dict(epoch["metrics"])] for epoch in trial.epochs]
    if history is not None and history != reported and not again:
        yield Finding(f"{PREDICTIONS.name} has another history of its epochs", "that of its reports")


def _of_its_split(trial: TrialEvidence, stored: Stored) -> Iterator[Finding]:
    """Validation and test share no example; where the data set is at hand, the ids are those of its split."""
    import numpy as np

    arrays = {split: stored.of(split) for split in ("val", "test")}
    ids = {split: found["ids"] for split, found in arrays.items() if found is not None}
    if len(ids) == 2 and (shared := len(np.intersect1d(ids["val"], ids["test"]))):
        yield Finding(f"{shared} examples are in validation and in test", "none")
    if not trial.sweep.thorough:
        return
    own = own_split(trial)
    for split, found in arrays.items():
        if found is None or own is None:
            continue
        right, labels = own[split]
        if not np.array_equal(found["ids"], right):
            wrong = len(np.setdiff1d(found["ids"], right))
            yield Finding(f"{wrong} ids of {split} are not of it", "those of the data set's own split")
        elif not np.array_equal(found["labels"], labels):
            yield Finding(f"labels of {split} are others", "those of the data set")


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
        return Stored(load(read_regular(paths[0])), header_state(paths[0]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError):
        return None
