"""Finished sweeps with predictions, made without training: what `gather` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from orchestrator.base.layout import PREDICTIONS, SWEEP_MARK, TRACKING, trial_folder
from orchestrator.journal.events import event_from
from orchestrator.journal.file import Journal, finite
from orchestrator.tracking.shipper import Shipper

START_MS = 1_700_000_000_000
FINGERPRINT = "0123456789abcdef" * 4
CLASSES = ("cat", "dog", "bird")
VAL, TEST = 12, 8


@dataclass
class Made:
    """One trial, and what is wrong with it.

    Args:
        arrays, state: replace those of its predictions; None leaves one out.
        contents: replaces the file, whose SHA-256 the journal still names.
        recorded: replaces the SHA-256 in the journal.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_index: int | None = None
    repeat: int = 0
    state: str = "completed"
    value: float | None = None
    arrays: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] | None = None
    contents: bytes | None = None
    recorded: str | None = None
    predictions: bool = True
    skill: float = 2.0


def finished_sweep(
    folder: Path,
    trials: Sequence[Made],
    *,
    metric: str = "val/accuracy",
    mode: str = "max",
    facts: Mapping[str, Any] | None = None,
    seed: int = 0,
    val: int = VAL,
    test: int = TEST,
    classes: Sequence[str] = CLASSES,
    tracking: Mapping[str, Any] | None = None,
) -> Path:
    """Makes the folder of a finished sweep, and returns it."""
    folder.mkdir(parents=True)
    (folder / SWEEP_MARK).write_text(json.dumps({"sweep": folder.name}))
    base = _config({})
    plan = {"settings": {}, "base": base, "choices": {}, "space": [], "facts": facts or {}, "notes": [], "rules": 2}
    seconds = iter(range(START_MS // 1000, START_MS))
    journal = Journal(folder / "journal.sqlite", create=True, clock=lambda: float(next(seconds)))

    def append(kind: str, trial: int | None = None, attempt: int | None = None, **data: Any) -> None:
        journal.append(event_from(kind, finite(data), trial), trial=trial, attempt=attempt)

    append(
        "sweep_opened",
        uid=folder.name,
        name=folder.name.rsplit("-", 1)[0],
        metric=metric,
        mode=mode,
        trials=len(trials),
        folder=".",
        plan=json.dumps(plan | {part: {} for part in ("sampler", "scheduler", "tracking", "cluster")}),
        config=base,
        space=[],
        sampler={"_target_": "orchestrator.scheduling.samplers.random.random"},
        tracking=dict(tracking or {"kind": "none"}),
        environment={"command": "orchestrator launch"},
    )
    for index, made in enumerate(trials):
        config = _config(made.params) | dict(made.config)
        number = index if made.config_index is None else made.config_index
        append("suggested", index, params=dict(made.params), config=config, config_index=number, repeat=made.repeat)
        append("started", index, 1, host="here", pid=1)
        if made.state == "running":
            continue
        arrays = predictions(index + 1000 * seed, val, test, len(classes), made.skill) | dict(made.arrays)
        value = made.value if made.value is not None else _accuracy(arrays)
        history = [[1, START_MS, {"val/accuracy": value, "val/loss": 1.0 - value}]]
        header = {
            "uid": f"{folder.name}/{index}",
            "fingerprint": FINGERPRINT,
            "classes": list(classes),
            "best_epoch": 1,
            "best_value": value,
            "metrics": {},
            "history": history,
            "reason": None,
        }
        artifacts = _write(folder, index, made, arrays, header | dict(made.header)) if made.predictions else []
        epochs = [{"epoch": 1, "time_ms": START_MS, "metrics": history[0][2]}]
        append("reported", index, 1, epochs=epochs, checkpoint=None, best=[1, value])
        metrics = {"test/accuracy": 0.5, "test/loss": 0.7} if made.metrics is None else dict(made.metrics)
        end = {"state": made.state, "reason": made.state, "epoch": 1, "value": value, "best_epoch": 1, "error": None}
        append("terminal", index, 1, **end, metrics=metrics, artifacts=artifacts)
    append("sweep_closed", reason="finished", totals={"completed": len(trials)}, best=None, seconds=1.0)
    journal.commit()
    journal.close()
    return folder


def ship(folder: Path) -> Shipper:
    """Ships a sweep to the store that its journal names; returns the shipper, which is closed."""
    (folder / TRACKING).mkdir()
    shipper = Shipper(folder)
    shipper.ship_everything()
    shipper.close()
    return shipper


def predictions(seed: int, val: int, test: int, classes: int, skill: float = 2.0) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a trial that is right more often the greater its skill; ids and labels are the same for all seeds."""
    draw, found = np.random.default_rng(seed), {}
    for split, count, first in (("val", val, 100), ("test", test, 100_000)):
        labels = np.arange(count) % classes
        logits = draw.normal(size=(count, classes)) + skill * np.eye(classes)[labels]
        found[f"{split}_logits"] = (logits - logits.max(1, keepdims=True)).astype(np.float32)
        found[f"{split}_ids"] = np.arange(first, first + count)
        found[f"{split}_labels"] = labels
    return found


def packed(arrays: Mapping[str, Any], state: Mapping[str, Any]) -> bytes:
    """A predictions file; an array or an entry of the state that is None is left out."""
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
    said = {key: value for key, value in state.items() if value is not None}
    return save(tensors, {"format_version": "1", "state": json.dumps(said)})


def _write(
    folder: Path, index: int, made: Made, arrays: Mapping[str, Any], state: Mapping[str, Any]
) -> list[dict[str, str]]:
    contents = packed(arrays, state)
    path = trial_folder(folder, index) / PREDICTIONS
    path.parent.mkdir(parents=True)
    path.write_bytes(contents if made.contents is None else made.contents)
    digest = made.recorded or hashlib.sha256(contents).hexdigest()
    return [{"path": str(path.relative_to(folder)), "sha256": digest}]


def _accuracy(arrays: Mapping[str, Any]) -> float:
    return float((arrays["val_logits"].argmax(1) == arrays["val_labels"]).mean())


def _config(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "choices": {"data": "digits", "model": params.get("model", "mlp"), "norm": params.get("norm", "none")},
        "model": {"_target_": "models.mlp.mlp", "hidden": 2, "width": 100},
        "norm": {},
        "optimizer": {"_target_": "orchestrator.training.optimizers.sgd", "lr": params.get("optimizer.lr", 0.1)},
        "batch_size": 32,
        "epochs": 1,
        "seed": params.get("seed", 0),
        "metric": "val/accuracy",
        "mode": "max",
    }
