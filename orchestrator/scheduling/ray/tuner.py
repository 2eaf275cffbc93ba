"""Hands the conductor's trials to Ray Tune and brings the workers' reports back."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler

from orchestrator.base.records import NODE_LOST, State, Trial
from orchestrator.scheduling.conductor import Conductor
from orchestrator.scheduling.ray.private import (
    Answer,
    Controller,
    FixedResourceManager,
    Queue,
    StorageContext,
    SweepTrial,
    share_workers,
)
from orchestrator.scheduling.ray.worker import TrialWorker, encode
from orchestrator.scheduling.schedulers import Decision
from orchestrator.scheduling.watchdog import Watchdog


def run(
    conductor: Conductor,
    *,
    rungs: Sequence[int],
    cpus_per_trial: float,
    gpus_per_trial: float,
    concurrent: int,
    own_cluster: bool,
    scratch: Path,
    heartbeat_timeout_s: float | None = None,
    ended: Callable[[], bool] = lambda: False,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Runs the sweep to its end, or until `ended` says so; needs a connected Ray.

    Tune's controller is stepped here rather than by `Tuner.fit`, which writes snapshots and tables that the journal makes
    superfluous, and has no way to end early.

    Args:
        rungs: epochs after which a judged trial reports.
        own_cluster: nothing else runs there, so that no placement group has to hold a trial's place: each costs a process.
        scratch: a folder that Tune insists on; nothing of worth lies there.
        heartbeat_timeout_s: a trial that neither reports nor touches its heartbeat for this long is killed and continues from its
            checkpoint.
        on_step: called several times a second in this thread.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)
    share_workers()
    resources = {"CPU": cpus_per_trial, "GPU": gpus_per_trial}
    room = {name: amount * concurrent for name, amount in resources.items()}
    storage = StorageContext(storage_path=str(scratch.resolve()), experiment_dir_name="sweep")
    queue = _Queue(conductor, rungs, resources, storage)
    watchdog = Watchdog(heartbeat_timeout_s) if heartbeat_timeout_s else None
    relay = _Relay(conductor, queue, watchdog)
    controller = Controller(
        queue=queue,
        on_start=relay.started,
        on_report=relay.report,
        scheduler=FIFOScheduler(),
        callbacks=[relay],
        storage=storage,
        reuse_actors=True,
        checkpoint_period=float("inf"),
        resource_manager_factory=(lambda: FixedResourceManager(room)) if own_cluster else None,
    )
    last = 0.0
    try:
        while not conductor.done and not ended():
            controller.step()
            if time.monotonic() - last > 0.2:
                last = time.monotonic()
                on_step()
                if watchdog:
                    for index in watchdog.silent([conductor.trial(index) for index in controller.training()]):
                        controller.kill(index, f"no heartbeat and no report for {heartbeat_timeout_s:g} s")
    except TuneError as error:
        raise relay.error or error from error
    finally:
        # Ends the workers at once: what counts of their trials is on disk and in the journal.
        controller.end_workers()


class _Queue(Queue):
    """The conductor's trials, with the sweep's own identities."""

    def __init__(self, conductor: Conductor, rungs: Sequence[int], resources: dict[str, float], storage: Any) -> None:
        self._conductor, self._rungs = conductor, rungs
        self._resources, self._storage = tune.PlacementGroupFactory([resources]), storage
        self._ready: deque[SweepTrial] = deque()
        self._ahead: set[SweepTrial] = set()

    def next_trial(self) -> TuneTrial | None:
        if self._conductor.is_full(ahead=self._waiting):
            return None
        trial = self._ready.popleft() if self._ready else self._make(self._waiting)
        if trial is not None:
            self._conductor.before_run(int(trial.trial_id))
        return trial

    def prepare(self, workers: int) -> None:
        while len(self._ready) <= workers and (trial := self._make(self._waiting + 1)):
            self._ready.append(trial)

    def take_ahead(self) -> SweepTrial | None:
        if len(self._ready) < 2:
            return None
        trial = self._ready.popleft()
        self._conductor.before_run(int(trial.trial_id))
        self._ahead.add(trial)
        return trial

    def begin(self, trial: SweepTrial) -> None:
        self._ahead.remove(trial)

    def give_back(self, trial: SweepTrial, *, lost: bool) -> None:
        self._ahead.remove(trial)
        self._ready.appendleft(trial)
        if lost:
            self._conductor.withdraw(int(trial.trial_id))
            self.tell_attempt(trial)

    def tell_attempt(self, tune_trial: SweepTrial) -> None:
        """The next worker that gets this trial is told which attempt it is."""
        index = int(tune_trial.trial_id)
        tune_trial.retries_left = self._conductor.retries_left(index)
        tune_trial.set_config(self._encode(self._conductor.trial(index)))

    def is_finished(self) -> bool:
        return self._conductor.no_more and not self._waiting

    def set_finished(self) -> None:
        self._conductor.cancel_live("stopped by Ray Tune")

    @property
    def _waiting(self) -> int:
        """How many trials were handed out by the conductor, and not yet to a worker that runs them."""
        return len(self._ready) + len(self._ahead)

    def _make(self, ahead: int) -> SweepTrial | None:
        trial = self._conductor.next_trial(ahead)
        if trial is None:
            return None
        tune_trial = SweepTrial(
            TrialWorker.__name__,
            config=self._encode(trial),
            trial_id=str(trial.index),
            storage=self._storage,
            placement_group_factory=self._resources,
            max_failures=1,
            stub=True,
        )
        tune_trial.trainable = TrialWorker
        tune_trial.retries_left = self._conductor.retries_left(trial.index)
        return tune_trial

    def _encode(self, trial: Trial) -> dict[str, Any]:
        index = trial.index
        judged, left = self._conductor.is_judged(index), self._conductor.retries_left(index)
        return encode(trial, rungs=list(self._rungs), judged=judged, retries_left=left)


class _Relay(tune.Callback):  # type: ignore[misc]
    """Tune's events, told to the conductor.

    Attributes:
        error: what the conductor raised, which Tune hands on as a text only.
    """

    def __init__(self, conductor: Conductor, queue: _Queue, watchdog: Watchdog | None) -> None:
        self._conductor, self._queue, self._watchdog = conductor, queue, watchdog
        self.error: Exception | None = None

    def on_trial_start(self, iteration: int, trials: list[SweepTrial], trial: SweepTrial, **info: Any) -> None:
        self.started(trial)

    def started(self, trial: SweepTrial) -> None:
        """A worker begins a trial."""
        with self._kept():
            self._conductor.on_started(int(trial.trial_id), trial.began_ms)
            trial.began_ms = None

    def report(self, trial: SweepTrial, text: str) -> Answer:
        """Hands a worker's report to the conductor."""
        with self._kept():
            index = int(trial.trial_id)
            if self._watchdog:
                self._watchdog.reported(index)
            report = json.loads(text)
            trial.reports, trial.reported_ms = trial.reports + 1, report["sent_ms"]
            decision = self._conductor.on_report(index, report)
            trial.retries_left = self._conductor.retries_left(index)
            if report["epochs"]:
                trial.exception = ""  # it got further: a like exception later is another one
        if report["state"] != State.RUNNING:
            return Answer.ENDED
        return Answer.GO_ON if decision is Decision.CONTINUE else Answer.STOP

    def on_trial_recover(self, iteration: int, trials: list[SweepTrial], trial: SweepTrial, **info: Any) -> None:
        with self._kept():
            reason = trial.killed_for or (NODE_LOST if trial.lost_node else "the worker process died")
            trial.killed_for = ""
            self._conductor.on_death(int(trial.trial_id), trial.death, reason)
            self._queue.tell_attempt(trial)

    def on_trial_error(self, iteration: int, trials: list[SweepTrial], trial: SweepTrial, **info: Any) -> None:
        with self._kept():
            self._conductor.on_lost(int(trial.trial_id), trial.killed_for or trial.death)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise
