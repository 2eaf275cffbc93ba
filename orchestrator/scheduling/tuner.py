"""Hands the conductor's trials to Ray Tune and brings the workers' reports back."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search.search_algorithm import SearchAlgorithm

from orchestrator.records import Trial
from orchestrator.scheduling.conductor import Conductor
from orchestrator.scheduling.schedulers import SchedulerSettings
from orchestrator.scheduling.worker import TrialWorker, encode


class _Finished(BaseException):
    """Leaves Tune's loop at once: everything is in the journal, and its own snapshot and result tables are not needed."""


def run(
    conductor: Conductor,
    *,
    scheduler: SchedulerSettings,
    mode: str,
    epochs: int,
    cpus_per_trial: float,
    gpus_per_trial: float,
    concurrent: int,
    max_retries: int,
    out_of_time: Callable[[], bool] = lambda: False,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Runs the sweep to its end, or until `out_of_time` says so; needs a connected Ray.

    Args:
        on_step: called several times a second in this thread.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)
    resources = {"CPU": cpus_per_trial, "GPU": gpus_per_trial}
    search = _Search(conductor, scheduler.rungs(epochs), resources, max_retries)
    relay = _Relay(conductor, search, out_of_time, on_step)
    with tempfile.TemporaryDirectory(prefix="orchestrator-tune-", ignore_cleanup_errors=True) as folder:
        tuner = tune.Tuner(
            TrialWorker,
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler.start(mode=mode, epochs=epochs),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                name="sweep",
                callbacks=[relay],
                failure_config=tune.FailureConfig(max_failures=max_retries),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except _Finished:
            pass


class _NotInSnapshots:
    """Tune pickles what it is given; of these objects nothing belongs there, as the journal is the only record."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Search(_NotInSnapshots, SearchAlgorithm):  # type: ignore[misc]
    """Tune's source of trials, with the sweep's own identities."""

    def __init__(self, conductor: Conductor, rungs: list[int], resources: dict[str, float], max_retries: int) -> None:
        self._conductor, self._rungs, self._max_retries = conductor, rungs, max_retries
        self._resources = resources
        self._spec: dict[str, Any] = {}

    def add_configurations(self, experiments: Any) -> None:
        self._spec = experiments[0].spec

    def next_trial(self) -> TuneTrial | None:
        trial = self._conductor.next_trial()
        if trial is None:
            return None
        return _Trial(
            self._spec["run"],
            config=self._encode(trial),
            trial_id=str(trial.index),
            storage=self._spec["storage"],
            placement_group_factory=tune.PlacementGroupFactory([self._resources]),
            max_failures=self._max_retries,
            trial_dirname_creator=lambda tune_trial: str(tune_trial.trial_id),
        )

    def tell_attempt(self, tune_trial: TuneTrial, attempt: int) -> None:
        """The next worker that gets this trial is told that it is attempt `attempt`."""
        trial = self._conductor.trials[int(tune_trial.trial_id)].trial
        tune_trial.set_config(self._encode(replace(trial, attempt=attempt)))

    def _encode(self, trial: Trial) -> dict[str, Any]:
        return encode(trial, rungs=self._rungs, max_retries=self._max_retries)

    def is_finished(self) -> bool:
        return self._conductor.no_more

    def set_finished(self) -> None:
        self._conductor.cancel_live("stopped by Ray Tune")


class _Trial(TuneTrial):  # type: ignore[misc]
    """Keeps the words of the error that ended its last worker."""

    death: str = ""

    def handle_error(self, exc: Any = None) -> None:
        self.death = str(exc) if exc else "the worker process died"
        super().handle_error(exc)


class _Relay(_NotInSnapshots, tune.Callback):  # type: ignore[misc]
    """Tune's events, told to the conductor."""

    def __init__(
        self,
        conductor: Conductor,
        search: _Search,
        out_of_time: Callable[[], bool],
        on_step: Callable[[], None],
    ) -> None:
        self._conductor, self._search = conductor, search
        self._out_of_time, self._on_step = out_of_time, on_step
        self._last_step = 0.0

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._conductor.on_started(int(trial.trial_id))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        report = json.loads(result["report"])
        self._conductor.on_report(int(trial.trial_id), report, stopped=bool(result.get("done")))

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        attempt = self._conductor.on_death(int(trial.trial_id), _error_of(trial))
        self._search.tell_attempt(trial, attempt)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._conductor.on_lost(int(trial.trial_id), _error_of(trial))

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        if self._conductor.done:
            raise _Finished
        if self._out_of_time():
            raise _Finished
        now = time.monotonic()
        if now - self._last_step > 0.2:
            self._last_step = now
            self._on_step()


def _error_of(trial: TuneTrial) -> str:
    return trial.death if isinstance(trial, _Trial) else "the worker process died"
