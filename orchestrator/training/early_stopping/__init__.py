"""Rules that end a trial before its last epoch by its own validation scores alone, one a file; the best epoch is kept either way.

A target in `conf/early_stopping` returns a pure function of the scores, so that a trial continued from a checkpoint ends where it
would have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

EarlyStopping = Callable[[Sequence[float]], str | None]
"""From the metric of each epoch so far, larger being better, to the reason why training ends now; None goes on."""
