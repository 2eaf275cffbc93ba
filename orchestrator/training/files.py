"""A trial's folder: claimed by one attempt, kept from earlier ones by a fence, and the files that a trial writes there.

The fence is a number that grows with every attempt and every resume of the sweep, kept in the file `attempt`. Whoever finds a
higher one than his own may not write any more: it is looked at before each file, and once more when that is on disk under
another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestrator.base.errors import NotReadyError
from orchestrator.base.inputs import Inputs
from orchestrator.base.layout import AVERAGE, BEST, FENCE, PREDICTIONS, snapshot
from orchestrator.base.records import Trial
from orchestrator.base.regular import read_regular
from orchestrator.base.removal import opened_trial
from orchestrator.training import checkpoint, predictions
from orchestrator.training.averaging import Average
from orchestrator.training.checkpoint import Loaded, SavedCheckpoint
from orchestrator.training.endings import Superseded
from orchestrator.training.predictions import Predictions
from orchestrator.training.snapshots import Snapshots


@dataclass(frozen=True)
class Best:
    """The best epoch so far.

    Args:
        value: of the trial's metric.
        weights: the model's state.
        inputs: what the model was told of its images.
        preprocessing: tensors of that, see `training.inputs`.
    """

    epoch: int
    value: float
    weights: Mapping[str, Tensor]
    inputs: Inputs
    preprocessing: Mapping[str, Tensor]


class TrialFiles:
    """The files of one attempt at a trial.

    Every method but `claim` raises Superseded where a later attempt has begun; nothing is written then.

    Args:
        trial: one with a folder.
    """

    def __init__(self, trial: Trial) -> None:
        self.folder = Path(trial.folder)
        self._trial = trial
        self._saved: SavedCheckpoint | None = None
        self._best_epoch: int | None = None

    def claim(self) -> tuple[Loaded | None, list[str]]:
        """Take the folder for this attempt; the newest valid checkpoint in it, and a note on each damaged one.

        Raises:
            Superseded: a later attempt has it.
            RefusedRemovalError: it, or `trials/`, is a link that leads elsewhere.
        """
        with opened_trial(self.folder, create=True) as mine:
            self.check_fence()
            if self._trial.fence > 1 and self._fence() < self._trial.fence:
                checkpoint.write(self.folder / FENCE, str(self._trial.fence).encode())
            checkpoint.clear_leftovers(mine)
        return checkpoint.load_newest(self.folder, self._trial.uid)

    def saved_checkpoint(self, epoch: int) -> SavedCheckpoint | None:
        """The checkpoint of this epoch, where this attempt has written it already."""
        self.check_fence()
        return self._saved if self._saved is not None and self._saved.epoch == epoch else None

    def save_checkpoint(
        self, epoch: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], best: Best | None
    ) -> SavedCheckpoint:
        """Write the best weights, unless they are there, and the checkpoint of an epoch."""
        self.check_fence()
        before = self._pack_best(best)
        self._saved = checkpoint.save(self.folder, epoch, tensors, state, self.check_fence, before)
        self._best_epoch = None if best is None else best.epoch
        return self._saved

    def save_end(
        self, best: Best, predicted: Predictions, average: Average | None = None, snapshots: Snapshots | None = None
    ) -> dict[str, str]:
        """Write the best weights, unless they are there, averaged ones, snapshots and the predictions; the artifact's path and
        SHA-256."""
        self.check_fence()
        path, contents = self.folder / PREDICTIONS, predictions.pack(predicted)
        path.parent.mkdir(exist_ok=True)
        weights = {
            **self._pack_best(best),
            **self._pack_average(average, best),
            **self._pack_snapshots(snapshots, best),
        }
        checkpoint.write_all({**weights, path: contents}, self.check_fence)
        self._best_epoch = best.epoch
        return {"path": str(path), "sha256": hashlib.sha256(contents).hexdigest()}

    def check_fence(self) -> None:
        """Raise Superseded where a later attempt has begun."""
        if self._fence() > self._trial.fence:
            raise Superseded(
                f"a later attempt at trial {self._trial.uid} has begun; attempt {self._trial.attempt} ends"
            )

    def _pack_best(self, best: Best | None) -> dict[Path, bytes]:
        if best is None or self._best_epoch == best.epoch:
            return {}
        state = {"uid": self._trial.uid, "epoch": best.epoch, "value": best.value, "inputs": best.inputs}
        return {self.folder / BEST: checkpoint.pack({**best.weights, **best.preprocessing}, state, stamp=True)}

    def _pack_average(self, average: Average | None, best: Best) -> dict[Path, bytes]:
        if average is None or not average.epochs:
            return {}
        state = {"uid": self._trial.uid, "epochs": average.epochs, "inputs": best.inputs}
        return {self.folder / AVERAGE: checkpoint.pack({**average.weights, **best.preprocessing}, state, stamp=True)}

    def _pack_snapshots(self, snapshots: Snapshots | None, best: Best) -> dict[Path, bytes]:
        if snapshots is None:
            return {}
        return {
            self.folder / snapshot(number): checkpoint.pack(
                {**weights, **best.preprocessing},
                {"uid": self._trial.uid, "epoch": epoch, "inputs": best.inputs},
                stamp=True,
            )
            for number, (epoch, weights) in enumerate(zip(snapshots.epochs, snapshots.taken, strict=False), 1)
        }

    def _fence(self) -> int:
        """That of the latest attempt that claimed the folder."""
        try:
            return int(read_regular(self.folder / FENCE))
        except FileNotFoundError:
            return 1
        except ValueError as error:
            raise NotReadyError(f"{self.folder / FENCE} is damaged; remove it while nothing trains there") from error
