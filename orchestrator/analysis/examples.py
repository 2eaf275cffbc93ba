"""What a trial got right and wrong, example by example: from its stored predictions, read with numpy and without torch."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.base.regular import read_regular
from orchestrator.journal.record import TrialRecord

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BUDGET_BYTES = 400 * 2**20
"""So much is read in all; of ImageNet a file has 200 MB."""


@dataclass(frozen=True)
class Examples:
    """One trial on the validation examples, with the weights of its best epoch; arrays of equal length.

    Args:
        ids, labels: which examples, and their classes.
        ranks: the place of the right class among the predicted ones, from 0; of equal logits the first one is larger.
        losses: cross-entropy.
    """

    ids: Array
    labels: Array
    ranks: Array
    losses: Array

    def of_same(self, other: Examples) -> bool:
        """Whether both are of the same examples, in the same order."""
        import numpy as np

        return np.array_equal(self.ids, other.ids) and np.array_equal(self.labels, other.labels)


class ExamplesReader:
    """Reads trials until the budget is used up.

    Args:
        folder: of the sweep.
    """

    def __init__(self, folder: Path | None, budget: int = BUDGET_BYTES) -> None:
        self._folder, self._left = folder, budget
        self._read: dict[int, Examples | None] = {}

    def of(self, trial: TrialRecord) -> Examples | None:
        """None where the file is not there, is not the one that the journal names, or the budget is used up."""
        if trial.index not in self._read:
            self._read[trial.index] = self._of(trial)
        return self._read[trial.index]

    def _of(self, trial: TrialRecord) -> Examples | None:
        digests = [file["sha256"] for file in trial.artifacts if Path(file["path"]).name == PREDICTIONS.name]
        if self._folder is None or not digests:
            return None
        path = trial_folder(self._folder, trial.index) / PREDICTIONS
        with contextlib.suppress(OSError):
            if (size := os.stat(path).st_size) <= self._left:
                self._left -= size
                contents = read_regular(path)
                if hashlib.sha256(contents).hexdigest() in digests:
                    return _examples(contents)
        return None


def _examples(contents: bytes) -> Examples | None:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(contents)
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    logits_NK, ids_N, labels_N = (arrays.get(f"val_{name}") for name in ("logits", "ids", "labels"))
    if logits_NK is None or ids_N is None or labels_N is None or logits_NK.ndim != 2 or not logits_NK.size:
        return None
    shapes = ids_N.shape == labels_N.shape == logits_NK.shape[:1]
    if not shapes or labels_N.dtype.kind not in "iu" or labels_N.min() < 0 or labels_N.max() >= logits_NK.shape[1]:
        return None
    logits_NK = logits_NK.astype(np.float64)
    if not np.isfinite(logits_NK).all():
        return None
    right_N1 = np.take_along_axis(logits_NK, labels_N[:, None].astype(np.int64), axis=1)
    before = np.arange(logits_NK.shape[1])[None] < labels_N[:, None]
    ranks_N = ((logits_NK > right_N1) | ((logits_NK == right_N1) & before)).sum(1)
    top_N1 = logits_NK.max(1, keepdims=True)
    losses_N = np.log(np.exp(logits_NK - top_N1).sum(1)) - (right_N1 - top_N1)[:, 0]
    return Examples(ids_N, labels_N, ranks_N, losses_N)
