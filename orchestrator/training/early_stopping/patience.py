"""Patience: training ends when the metric has not improved for some epochs."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.training.early_stopping import EarlyStopping


def patience(*, epochs: int = 10, min_delta: float = 0.0) -> EarlyStopping:
    """Ends after `epochs` epochs in a row that were not better than the last improvement by more than `min_delta`.

    Raises:
        ValueError: `epochs` is less than 1, or `min_delta` is negative.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if min_delta < 0:
        raise ValueError(f"min_delta must be at least 0, got {min_delta:g}")

    def rule(scores: Sequence[float]) -> str | None:
        improved, best = 0, scores[0]
        for place, score in enumerate(scores):
            if score > best + min_delta:
                improved, best = place, score
        if len(scores) - 1 - improved < epochs:
            return None
        return f"no improvement for {epochs} epochs" if epochs > 1 else "no improvement for one epoch"

    return rule
