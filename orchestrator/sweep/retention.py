"""Which files of a sweep's trials are kept: checkpoints while a trial runs, the best weights of the best configurations."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.layout import ARTIFACTS, AVERAGE, BEST, CHECKPOINT_NAME, SNAPSHOT, UNFINISHED, trial_folder
from orchestrator.base.recorded import read_plan
from orchestrator.base.records import State
from orchestrator.base.removal import Folder, RefusedRemovalError, opened_trial
from orchestrator.journal.events import Suggested, Terminal
from orchestrator.journal.file import Entry
from orchestrator.journal.parts import KeptWeights
from orchestrator.journal.place import written_path
from orchestrator.journal.record import Scores, SweepRecord, TrialRecord


class Retention:
    """A listener of the journal that removes what is not to be kept, as the sweep goes on.

    A trial that has ended never continues: its checkpoints go. Its best weights go unless its configuration is among the best;
    all repeats of such a configuration are kept. Nothing goes before the end of its trial is durable, or a crash at that
    moment would leave a trial that has to continue without its checkpoint. Everything may be done twice.

    Args:
        folder: of the sweep.
        record: what the sweep's events add up to; the driver keeps it up to date.
        keep: so many configurations keep their weights.
        durable: number of the newest event that a crash cannot take back.
    """

    def __init__(self, folder: Path, record: SweepRecord, keep: int, durable: Callable[[], int]) -> None:
        self._folder, self._record, self._keep, self._durable = folder, record, keep, durable
        self._repeat = int(read_plan(record.plan)["settings"].get("repeat", 1)) if record.plan else 1
        self._members: dict[int, list[int]] = defaultdict(list)
        for trial in record.trials.values():
            self._members[trial.config_index].append(trial.index)
        self._candidates: set[int] = set()
        self._due: list[tuple[int, int]] = []

    def __call__(self, entry: Entry) -> None:
        """Takes an event; what ended a while ago is tidied when something else begins or ends."""
        event = entry.event
        if not isinstance(event, Suggested | Terminal):
            return
        if self._due:
            self._tidy(self._durable())
        if isinstance(event, Suggested):
            self._members[event.config_index].append(entry.index)
        else:
            self._due.append((entry.seq, entry.index))

    def catch_up(self) -> None:
        """Does what an earlier driver did not come to; for the beginning of a resume."""
        for trial in self._record.trials.values():
            if trial.ended:
                self._tidy_trial(trial)
        self._drop_the_worst()

    def finish(self) -> None:
        """Does what is left before the sweep is closed; everything in the journal must be durable (`Journal.commit`).

        No more repeats are waited for, and a cancelled trial's worker may have written until it was killed.
        """
        self._tidy(self._record.last_seq)
        kept = set(self._best_trials())
        for trial in self._record.trials.values():
            if trial.state is State.CANCELLED:
                self._remove_checkpoints(trial)
            if trial.ended and trial.index not in kept:
                self._remove_weights(trial.index)

    def kept(self) -> list[KeptWeights]:
        """The weights that are there of the best configurations, the best first."""
        found: list[KeptWeights] = []
        for index in self._best_trials():
            path = trial_folder(self._folder, index) / BEST
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found.append({"trial": index, "path": written_path(path, self._folder), "sha256": digest})
        return found

    def _best_trials(self) -> list[int]:
        best = self._record.scores.ranked()[: self._keep] if self._record.scores else []
        return [index for score in best for index in sorted(score.trials)]

    def _tidy(self, durable: int) -> None:
        """Tidies the trials whose end is durable and known to the record."""
        later = []
        for seq, index in self._due:
            trial = self._record.trials.get(index)
            if seq <= durable and trial is not None and trial.ended:
                self._tidy_trial(trial)
            else:
                later.append((seq, index))
        self._due = later
        self._drop_the_worst()

    def _tidy_trial(self, trial: TrialRecord) -> None:
        """Removes what a trial that has ended keeps in no case; its configuration may be one to choose from then."""
        self._remove_checkpoints(trial)
        alone = Scores(self._record.opened.mode)
        alone.add(trial.config_index, trial.index, trial.state, trial.value)
        if alone.best is None:
            self._remove_weights(trial.index)
        self._candidates.discard(trial.config_index)
        if self._is_final(trial.config_index):
            self._candidates.add(trial.config_index)

    def _is_final(self, config_index: int) -> bool:
        """Whether nothing more will be known of a configuration, as far as it can be told.

        One whose repeats are under way, or to come, may rise. Repeats come only after a first trial that completed.
        """
        trials = [self._record.trials[index] for index in self._members[config_index]]
        if not all(trial.ended for trial in trials):
            return False
        repeats = max(self._repeat, self._record.repeats_of.get(config_index, 0))
        return len(trials) >= repeats or any(trial.state is not State.COMPLETED for trial in trials)

    def _drop_the_worst(self) -> None:
        """Removes the weights of the final configurations that are not among the best of them."""
        if len(self._candidates) <= self._keep:
            return
        scores = Scores(self._record.opened.mode)
        for config_index in self._candidates:
            for index in self._members[config_index]:
                trial = self._record.trials[index]
                scores.add(config_index, index, trial.state, trial.value, judged=trial.judged)
        stay = {score.config_index for score in scores.ranked()[: self._keep]}
        for config_index in self._candidates - stay:
            for index in self._members[config_index]:
                self._remove_weights(index)
        self._candidates = stay

    def _remove_checkpoints(self, trial: TrialRecord) -> None:
        def remove(folder: Folder) -> None:
            folder.remove_files(CHECKPOINT_NAME)
            folder.remove_files(UNFINISHED)
            with folder.inside(ARTIFACTS) as artifacts:
                artifacts.remove_files(UNFINISHED)

        self._tidy_folder(trial.index, remove)

    def _remove_weights(self, index: int) -> None:
        def remove(folder: Folder) -> None:
            folder.remove_file(BEST)
            folder.remove_file(AVERAGE)
            folder.remove_files(SNAPSHOT)

        self._tidy_folder(index, remove)

    def _tidy_folder(self, index: int, remove: Callable[[Folder], None]) -> None:
        # What cannot be removed now must not end the sweep; `finish` and the next resume try again.
        with (
            contextlib.suppress(OSError, RefusedRemovalError),
            opened_trial(trial_folder(self._folder, index)) as folder,
        ):
            remove(folder)
