"""Runs one trial inside a worker and hands out its reports, without Ray.

A report is plain data: the epochs since the last one, the checkpoint that was made durable before it, and how the trial stands.
It covers as many epochs as fit in `report_every_s`, and never passes a rung, where the scheduler has to judge.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.disk import is_full
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import sweep_of
from orchestrator.base.records import EpochResult, State, Trial, better
from orchestrator.scheduling.system_metrics import sampler

if TYPE_CHECKING:
    from orchestrator.training.trial import Diverged, Outcome

DISK_PAUSE_S = 1.0
"""How long a trial pauses that could not write, before it tries again."""


class Reporter:
    """One trial from its first epoch, or from its newest checkpoint, to its end.

    Args:
        trial: what to train.
        rungs: epochs after which a report is due.
        retries_left: so many times the trial is started again after an exception; the same exception twice in a row ends it.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(
        self,
        trial: Trial,
        *,
        rungs: Sequence[int] = (),
        retries_left: int = 2,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trial = trial
        self._rungs = frozenset(rungs)
        self._report_every_s = float(trial.config["report_every_s"])
        self._retries_left = retries_left
        self._monotonic = monotonic
        self._run: Any = None
        self._epochs: Iterator[EpochResult] = iter(())
        self._sent = 0
        self._restored: deque[EpochResult] = deque()
        self._recovered: Outcome | None = None
        self._best: tuple[int, float] | None = None
        self._last_error: str | None = None
        self._ran_on_reported: dict[str, Any] | None = None
        self._health_reported = False
        self._due = False
        self._could_not_write = False
        self._system = sampler() if trial.config.get("system_metrics") else None

    def next_report(self) -> dict[str, Any]:
        """Trains until a report is due.

        Raises:
            Exception: an accelerator failed in a way that only a new process can mend.
        """
        from orchestrator.training.trial import Diverged, Infeasible, Superseded

        if self._could_not_write:
            time.sleep(DISK_PAUSE_S)
            self._could_not_write = False
        try:
            if self._restored:
                return self._hand_out()
            if self._run is None:
                return self._begin()
            failpoint("report.after")
            return self._advance()
        except Diverged as error:
            return self._diverged(error)
        except Infeasible as error:
            return self._ended(State.INFEASIBLE, str(error))
        except Superseded as error:  # a later attempt goes on elsewhere, and the driver ignores this report
            return self._report(State.FAILED, [], reason=str(error))
        except Exception as error:
            if _needs_new_process(error):
                raise
            return self._failed(error)

    def _begin(self) -> dict[str, Any]:
        """Starts or continues; what an earlier attempt left is reported first."""
        from orchestrator.training.trial import TrialRun, recover_outcome

        if self._trial.fence > 1 and (finished := recover_outcome(Path(self._trial.folder), self._trial.uid)):
            history, self._recovered = finished
            self._restored.extend(history)
            return self._hand_out()
        self._run = TrialRun(self._trial)
        self._epochs = iter(self._run)
        if self._run.history:
            self._restored.extend(self._unsent())
            return self._hand_out()
        return self._advance()

    def _hand_out(self) -> dict[str, Any]:
        """Restored epochs up to the next rung, with the best as of then: the scheduler is shown what it would have been."""
        metric, mode = self._trial.config["metric"], self._trial.config["mode"]
        piece = []
        while self._restored:
            result = self._restored.popleft()
            piece.append(result)
            if better(mode, result.metrics[metric], self._best and self._best[1]):
                self._best = (result.epoch, result.metrics[metric])
            if result.epoch in self._rungs:
                break
        best = list(self._best) if self._best else None
        if self._recovered is not None and not self._restored:
            return self._report(
                State.COMPLETED, piece, outcome=self._recovered, best=best, reason=self._recovered.reason
            )
        return self._report(State.RUNNING, piece, best=best)

    def _advance(self) -> dict[str, Any]:
        if self._due:  # the disk was full
            return self._saved()
        last = int(self._trial.config["epochs"])
        start = self._monotonic()
        for result in self._epochs:
            due = result.epoch in self._rungs or self._monotonic() - start >= self._report_every_s
            if due and result.epoch < last:
                self._due = True
                return self._saved()
        outcome = self._run.finish()
        return self._report(State.COMPLETED, self._unsent(), outcome=outcome, reason=outcome.reason)

    def _saved(self) -> dict[str, Any]:
        """The report of the epochs since the last one, once their checkpoint is durable."""
        saved = self._run.save()
        self._due = False
        self._last_error = None
        checkpoint = {"epoch": saved.epoch, "sha256": saved.sha256}
        return self._report(State.RUNNING, self._unsent(), checkpoint=checkpoint)

    def _unsent(self) -> list[EpochResult]:
        unsent = list(self._run.history[self._sent :])
        self._sent += len(unsent)
        return unsent

    def _report(self, state: State, epochs: Sequence[EpochResult], **more: Any) -> dict[str, Any]:
        outcome = more.pop("outcome", None)
        run = self._run
        notes, best = (run.notes, run.best) if run else ([], None)
        report: dict[str, Any] = {
            "uid": self._trial.uid,
            "state": state.value,
            "attempt": self._trial.attempt,
            "epochs": [asdict(result) for result in epochs],
            "checkpoint": None,
            "notes": list(notes),
            "best": list(best) if best else None,
            **more,
        }
        if run and not self._ran_on_reported:
            report["ran_on"] = self._ran_on_reported = run.ran_on
        health = outcome.init_health if outcome else run.init_health if run else None
        if health and not self._health_reported and not report.get("retrying"):
            report["init_health"] = health
            self._health_reported = True
        if run:
            run.notes.clear()
        if self._system and epochs:
            report["system"] = self._system.take()
        if outcome:
            report |= {"metrics": dict(outcome.metrics), "artifacts": list(outcome.artifacts)}
        failpoint("report.before")
        return report

    def _ended(self, state: State, reason: str) -> dict[str, Any]:
        return self._report(state, self._unsent() if self._run else [], reason=reason)

    def _diverged(self, error: Diverged) -> dict[str, Any]:
        """The end of the trial, and its story, which trains it again up to there; the network that diverged is let go before."""
        from orchestrator.training.divergence import story

        report = self._ended(State.DIVERGED, str(error))
        self._run, self._epochs = None, iter(())
        error.__traceback__ = None  # its frames hold the network
        return report | {"divergence": story(self._trial, error)}

    def _failed(self, error: Exception) -> dict[str, Any]:
        """One more attempt from the newest checkpoint, unless the same exception came twice or the retries are used up.

        A disk that is full or read-only, or a sweep's folder that was moved away, is no fault of the trial: the driver is told,
        and the next report tries to write again.
        """
        if is_full(error) or (isinstance(error, OSError) and self._sweep_is_gone()):
            self._could_not_write = True
            return self._report(State.RUNNING, [], unwritable=str(error), best=None)
        text = "".join(traceback.format_exception(error))
        signature = "".join(traceback.format_exception_only(error))
        again = signature != self._last_error and self._retries_left > 0
        if not again:
            return self._report(State.FAILED, self._unsent() if self._run else [], reason=signature.strip(), error=text)
        # Without epochs: none that no checkpoint holds may be judged or recorded; they come again.
        report = self._report(State.RUNNING, [], retrying=True, reason=signature.strip(), error=text, best=None)
        self._last_error = signature
        self._epochs = iter(())
        self._retries_left -= 1
        self._trial = replace(self._trial, attempt=self._trial.attempt + 1, fence=self._trial.fence + 1)
        self._run = self._ran_on_reported = None
        self._health_reported = False
        self._due = False
        self._sent = 0
        self._best = None
        self._restored.clear()
        return report

    def _sweep_is_gone(self) -> bool:
        sweep = sweep_of(Path(self._trial.folder))
        return sweep is not None and not sweep.is_dir()


def _needs_new_process(error: Exception) -> bool:
    """Whether the accelerator's context is lost: every later call in this process would fail, too."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
