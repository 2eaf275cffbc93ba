"""What `train` keeps: a sweep of one trial, whose journal every command reads as it reads any other. MLflow has no part in it."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.layout import JOURNAL, STOP, trial_folder
from orchestrator.base.records import CAN_BE_BEST, Divergence, InitHealth, State, Trial
from orchestrator.base.settings import TRIAL_KEYS
from orchestrator.base.text import say
from orchestrator.config.plan import SweepPlan
from orchestrator.config.settings import NoTracking
from orchestrator.journal.events import Reported, Started, Suggested, SweepClosed, Terminal
from orchestrator.journal.file import Journal
from orchestrator.journal.place import refuse_copy
from orchestrator.journal.record import SweepRecord
from orchestrator.space import Space
from orchestrator.sweep.launching import create_folder, opening
from orchestrator.sweep.retention import Retention
from orchestrator.sweep.session import DriverContext, best_of, driving, resume_command

if TYPE_CHECKING:
    from orchestrator.training.trial import Diverged, Outcome, TrialRun

NO_SCHEDULER = {"_target_": "orchestrator.scheduling.schedulers.none.NoScheduler"}
UNTRACKED = {"_target_": f"{NoTracking.__module__}.{NoTracking.__name__}"}


def alone(plan: SweepPlan, config: Mapping[str, Any], *, name: str, runs_dir: Path) -> SweepPlan:
    """The plan of a sweep whose only trial has this configuration."""
    roots = {key: config[key] for key in TRIAL_KEYS if key in plan.settings}
    own = {"name": name, "runs_dir": str(runs_dir), "trials": 1, "repeat": 1, "keep_weights": 1, "time_budget_s": None}
    return replace(
        plan,
        settings={**plan.settings, **roots, **own},
        base=dict(config),
        space=Space(()),
        scheduler=NO_SCHEDULER,
        tracking=UNTRACKED,
    )


@dataclass
class Keeper:
    """Writes down how a trial is trained.

    Args:
        trial: with the folder of the sweep's only trial.
    """

    folder: Path
    journal: Journal
    record: SweepRecord
    trial: Trial

    def began(self, run: TrialRun) -> None:
        """An attempt begins, with what it computes on."""
        self.journal.append(Started(int(time.time() * 1000)), trial=0, attempt=1)
        self.journal.append(Reported([], None, list(run.notes), None, run.ran_on), trial=0, attempt=1)

    def epoch(self, run: TrialRun) -> None:
        """An epoch was trained, and its checkpoint written."""
        saved = run.save()
        checkpoint = {"epoch": saved.epoch, "sha256": saved.sha256}
        epochs = [asdict(run.history[-1])]
        reported = Reported(epochs, checkpoint, [], run.best, init_health=self._new_health(run))  # type: ignore[arg-type]
        self.journal.append(reported, trial=0, attempt=1)

    def diverged(self, run: TrialRun, error: Diverged, divergence: Divergence) -> None:
        """The training ended without a result."""
        if health := self._new_health(run):
            self.journal.append(Reported([], init_health=health), trial=0, attempt=1)
        self.end(State.DIVERGED, reason=str(error), divergence=divergence)

    def _new_health(self, run: TrialRun) -> InitHealth | None:
        return None if self.record.trials[0].init_health else run.init_health

    @property
    def stop_asked(self) -> bool:
        """Whether `orchestrator stop` was here."""
        return (self.folder / STOP).exists()

    def end(
        self,
        state: State,
        outcome: Outcome | None = None,
        *,
        reason: str | None = None,
        error: str | None = None,
        divergence: Divergence | None = None,
    ) -> None:
        """The trial has ended."""
        known = self.record.trials[0]
        counts = state in CAN_BE_BEST
        event = Terminal(
            state,
            known.epoch,
            known.value if counts else None,
            known.best_epoch if counts else None,
            dict(outcome.metrics) if outcome else {},
            [dict(artifact) for artifact in outcome.artifacts] if outcome else [],  # type: ignore[misc]
            reason,
            error,
            divergence,
        )
        self.journal.append(event, trial=0, attempt=1)

    def close(self, seconds: float) -> None:
        """The sweep of this trial has ended."""
        self.journal.commit()
        state = self.record.trials[0].state
        retention = Retention(self.folder, self.record, 1, lambda: self.journal.durable_seq)
        retention.catch_up()
        retention.finish()
        reason = "stopped" if state is State.CANCELLED else "finished"
        best = best_of(self.record.summaries())
        self.journal.append(SweepClosed(reason, {state.value: 1}, best, seconds, retention.kept()), sync=True)


@contextlib.contextmanager
def kept(plan: SweepPlan, command: Sequence[str]) -> Iterator[Keeper]:
    """A new folder of a sweep, and the journal in it, for the trial that is trained within the block.

    What is interrupted stays open, for `orchestrator resume`. What raises has failed.

    Args:
        plan: as `alone` gives it.
        command: what was typed.

    Raises:
        NotReadyError: the folder cannot be written, or belongs to a copy.
    """
    runs_dir = Path(plan.root.runs_dir)
    refuse_copy(runs_dir)
    tracking = {"kind": "none"}
    uid, folder = create_folder(plan, tracking)
    start = time.monotonic()
    with driving(folder), contextlib.closing(Journal(folder / JOURNAL, create=True)) as journal:
        record = SweepRecord()
        journal.subscribe(record.apply)
        journal.append(opening(plan, uid, folder, tracking, DriverContext(command=command)), sync=True)
        config = dict(plan.base)
        journal.append(Suggested({}, config, 0), trial=0, sync=True)
        trial = Trial(f"{uid}/0", 0, config, folder=str(trial_folder(folder, 0)))
        keeper = Keeper(folder, journal, record, trial)
        try:
            yield keeper
        except KeyboardInterrupt:
            say(f"interrupted; nothing is lost. Go on with:  {resume_command(folder)}")
            raise
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            keeper.end(State.FAILED, reason=f"{type(error).__name__}: {error}", error=text)
            raise
        finally:
            if record.trials[0].ended:
                keeper.close(time.monotonic() - start)
            else:
                journal.commit()
