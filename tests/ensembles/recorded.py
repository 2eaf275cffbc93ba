"""Records of comparisons, as `compare` leaves them, made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.ensembles.comparison import Comparison, Estimate, Row, Scores

CREATED_MS = 1_700_000_000_000


def scores(accuracy: float) -> Scores:
    return {
        "measures": {
            "accuracy": accuracy,
            "top5_error": 0.0,
            "nll": 1 - accuracy,
            "brier": 0.1,
            "ece": 0.01,
            "classwise_ece": 0.02,
        },
        "per_class_accuracy": [accuracy, None],
        "reliability": [(0.5, 0.5, 10)],
    }


def estimate(value: float, half: float | None = 0.01) -> Estimate:
    return {
        "value": value,
        "low": None if half is None else value - half,
        "high": None if half is None else value + half,
    }


def row(method: str, members: Sequence[int], accuracy: float, **more: Any) -> Row:
    made: Row = {
        "method": method,
        "described": f"the {method} of some",
        "members": members,
        "weights": [1 / len(members)] * len(members),
        "pooling": "probabilities",
        "temperature": 1.25,
        "member_temperatures": [],
        "allowed": True,
        "steps": [],
        "val": scores(accuracy - 0.01),
        "test": scores(accuracy),
        "accuracy": estimate(accuracy),
        "nll": estimate(1 - accuracy, None),
        "gain_accuracy": estimate(accuracy - 0.9),
        "gain_nll": estimate(0.0),
        "gain_over_mean": 0.02,
        "p_value": 0.03,
        "p_holm": 0.06,
        "in_set": True,
        "parameters": 1000,
        "multiply_adds": None,
        "latency_ms": None,
        "disagreement": 0.1,
        "q_statistic": None,
        "kl": 0.2,
    }
    made.update(more)  # type: ignore[typeddict-item]
    return made


def comparison(uid: str, sweeps: Sequence[str], names: Sequence[str], **changes: Any) -> Comparison:
    """Of two methods, of which `mean` over all members is the winner."""
    made: Any = {
        "format": 1,
        "uid": uid,
        "created_ms": CREATED_MS,
        "command": ["orchestrator", "compare", *sweeps],
        "settings": {"filter": None, "seed": 1, "budget": 3},
        "sweeps": [{"uid": one, "metric": "val/accuracy", "mode": "max", "look": 1} for one in sweeps],
        "classes": ["cat", "dog"],
        "fingerprint": "0" * 32,
        "examples": {"val": 50, "test": 100},
        "members": [
            {
                "name": name,
                "params": {"seed": place},
                "architecture": "mlp",
                "configuration": f"{name.partition('/')[0]}/c{place}",
                "value": 0.9,
                "parameters": 1000,
                "multiply_adds": None,
                "val_accuracy": 0.9,
                "val_nll": 0.3,
            }
            for place, name in enumerate(names)
        ],
        "left_out": [],
        "not_tried": [],
        "rows": [row("mean", list(range(len(names))), 0.93), row("best_single", [0], 0.9)],
        "winner": "mean",
        "corrected": {},
        "environment": {},
    }
    found: Comparison = made | changes
    return found


def kept(runs_dir: Path, found: Comparison) -> Path:
    """The folder of a comparison, with its record and a page."""
    folder = runs_dir / "comparisons" / found["uid"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(found))
    (folder / "comparison.html").write_text("<!doctype html><title>comparison</title>")
    return folder
