"""Patience: training ends when the metric has not improved for some epochs."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.training.early_stopping import EarlyStopping


def patience(*, patience: int = 10, min_delta: float = 0.0) -> EarlyStopping:
    """Ends after `patience` epochs in a row that were not better than the last improvement by more than `min_delta`.

    Raises:
        ValueError: `patience` is less than 1, or `min_delta` is negative.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    if min_delta < 0:
        raise ValueError(f"min_delta must be at least 0, got {min_delta:g}")

    def rule(scores: Sequence[float]) -> str | None:
        improved, best = 0, scores[0]
        for place, score in enumerate(scores):
            if score > best + min_delta:
                improved, best = place, score
        if len(scores) - 1 - improved < patience:
            return None
        return f"no improvement for {patience} epochs" if patience > 1 else "no improvement for one epoch"

    return rule
