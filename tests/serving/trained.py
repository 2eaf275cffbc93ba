"""Small trials trained in this process, with the journal of a sweep of them: what `load_model` and a served model are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file

from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.base.records import Trial
from orchestrator.training.trial import TrialRun
from tests.synthetic import Sweep, plan_text

OWN = "orchestrator.training"
DIGITS = {"_target_": f"{OWN}.data.digits.digits", "val_fraction": 0.2, "split_seed": 0}
STANDARDIZE = {"_target_": f"{OWN}.preprocess.standardize.standardize"}


def config(**changes: Any) -> dict[str, Any]:
    """A trial's configuration: a small MLP on the digits; keywords replace its entries."""
    none: dict[str, Any] = {
        key: {}
        for key in (
            "norm",
            "activation",
            "init",
            "augment",
            "penalty",
            "transfer",
            "early_stopping",
            "evaluate",
            "prune",
        )
    }
    return {
        "choices": {"data": "digits", "model": "mlp", "optimizer": "sgd"},
        "data": DIGITS,
        "model": {"_target_": "models.mlp.mlp", "hidden": 1, "width": 24},
        **none,
        "preprocess": STANDARDIZE,
        "optimizer": {"_target_": f"{OWN}.optimizers.sgd", "lr": 0.1, "momentum": 0.9},
        "schedule": {"_target_": f"{OWN}.schedules.constant"},
        "loss": {"_target_": f"{OWN}.losses.cross_entropy"},
        "epochs": 1,
        "batch_size": 16,
        "seed": 0,
        "pretrained": None,
        "metric": "val/accuracy",
        "mode": "max",
        "precision": "fp32",
        "device": "cpu",
        "cpus_per_trial": 1,
        "gpus_per_trial": 0,
        "report_every_s": 1.0,
        "data_cache": None,
        "allowed_targets": [],
        "import_paths": [],
    } | changes


def trained_sweep(folder: Path, *configs: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Sweep:
    """A sweep in `folder` whose trials have these configurations; it is finished, its journal closed.

    Args:
        facts: what its plan says of the data.
    """
    plan = json.loads(plan_text(keep_weights=10, metric="val/accuracy")) | {"facts": facts or {}}
    sweep = Sweep(folder, {"kind": "none"}, plan=json.dumps(plan))
    for index, one in enumerate(configs):
        _train(sweep, index, dict(one))
    sweep.append("sweep_closed", reason="finished", totals={"completed": len(configs)}, best=None, seconds=1.0)
    sweep.journal.commit()
    sweep.journal.close()
    return sweep


def _train(sweep: Sweep, index: int, one: dict[str, Any]) -> None:
    run = TrialRun(Trial(f"{sweep.uid}/{index}", index, one, folder=str(trial_folder(sweep.folder, index))))
    sweep.append("suggested", index, params={"seed": one["seed"]}, config=one, config_index=index)
    sweep.append("started", index, 1, host="here", pid=1)
    epochs = [{"epoch": r.epoch, "time_ms": r.time_ms, "metrics": dict(r.metrics)} for r in run]
    outcome = run.finish()
    assert run.best is not None
    sweep.append("reported", index, 1, epochs=epochs, checkpoint=None, best=list(run.best))
    ending = {"state": "completed", "reason": "completed", "epoch": run.epoch, "error": None}
    best = {"value": run.best[1], "best_epoch": run.best[0]}
    sweep.append(
        "terminal", index, 1, **ending, **best, metrics=dict(outcome.metrics), artifacts=list(outcome.artifacts)
    )


def stored_predictions(sweep: Sweep, index: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, ids and labels of the validation split, as the trial stored them."""
    found = load_file(trial_folder(sweep.folder, index) / PREDICTIONS)
    logits = found["val_logits"].double().numpy()
    shares = np.exp(logits)
    return shares / shares.sum(1, keepdims=True), found["val_ids"].numpy(), found["val_labels"].numpy()


def photographs(root: Path, *, each: int = 8) -> dict[str, list[Path]]:
    """A folder of made-up pictures of two classes in all shapes; split -> files in the order of the data set.

    Bright pictures are one class, dark ones the other; sizes, formats and modes vary.
    """
    random = np.random.default_rng(0)
    files: dict[str, list[Path]] = {}
    for split, count in (("train", each), ("val", each), ("test", 2)):
        for label, name in enumerate(("bright", "dark")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = (40, 30) if number % 2 else (48, 64)
                shades = random.integers(100 - 100 * label, 250 - 100 * label, (height, width, 3)).astype(np.uint8)
                files.setdefault(split, []).append(_save(Image.fromarray(shades), folder, number))
    return files


def _save(image: Image.Image, folder: Path, number: int) -> Path:
    path = folder / f"{number:02d}"
    if number % 4 == 0:
        path = path.with_suffix(".jpg")
        exif = Image.Exif()
        exif[0x0112] = 6 if number else 1  # on its side
        image.save(path, exif=exif)
        return path
    path = path.with_suffix(".png")
    {1: image, 2: image.convert("L"), 3: image.convert("RGBA")}[number % 4].save(path)
    return path
