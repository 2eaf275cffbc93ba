"""Hands the conductor's trials to Ray Tune and brings the workers' reports back."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air.execution import FixedResourceManager
from ray.exceptions import RayActorError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune.error import TuneError
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search.search_algorithm import SearchAlgorithm

from orchestrator.base.records import Trial
from orchestrator.scheduling.conductor import Conductor
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
        heartbeat_timeout_s: a trial without a sign of life for so long is killed and started again from its checkpoint.
        on_step: called several times a second in this thread.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)
    _ActorClassCache.get = _plain_actor_class
    resources = {"CPU": cpus_per_trial, "GPU": gpus_per_trial}
    room = {name: amount * concurrent for name, amount in resources.items()}
    storage = StorageContext(storage_path=str(scratch.resolve()), experiment_dir_name="sweep")
    search = _Search(conductor, rungs, resources, storage)
    relay = _Relay(conductor, search)
    controller = _Controller(
        search_alg=search,
        scheduler=_Answers(relay),
        callbacks=[relay],
        storage=storage,
        reuse_actors=True,
        checkpoint_period=float("inf"),
        resource_manager_factory=(lambda: FixedResourceManager(room)) if own_cluster else None,
    )
    watchdog = Watchdog(heartbeat_timeout_s) if heartbeat_timeout_s else None
    last = 0.0
    try:
        while not conductor.done and not ended():
            controller.step()
            if time.monotonic() - last > 0.2:
                last = time.monotonic()
                on_step()
                if watchdog:
                    for index in watchdog.silent([conductor.trial(index) for index in controller.training()]):
                        controller.kill(index, f"no sign of life for {heartbeat_timeout_s:g} s")
    except TuneError as error:
        raise relay.error or error from error
    finally:
        # Ends the workers at once: what counts of their trials is on disk and in the journal.
        controller._actor_manager.cleanup()


def _plain_actor_class(cache: Any, trainable: type) -> Any:
    """The actor class without a runtime environment of its own.

    Tune asks for one that only repeats variables which workers inherit anyway; the workers that Ray has started and warmed up
    do not match it, so that every sweep would wait for a second set of them (ray 2.60).
    """
    if trainable not in cache._cache:
        cache._cache[trainable] = ray.remote(trainable)
    return cache._cache[trainable]


class _Controller(TuneController):  # type: ignore[misc]
    """Tune's controller without the waits that short trials feel (ray 2.60).

    A worker that is starting up is waited for: Tune would give its trial to the first worker that falls free and end the one
    that starts, so that where trials are shorter than the start of a process all but one worker are never born. And a worker
    that falls free gets its next trial, with the order to train, in one go: before the trial after that is chosen, and without
    waiting for the answer that it was reset.
    """

    def __init__(self, **settings: Any) -> None:
        self._reset: list[TuneTrial] = []
        super().__init__(**settings)
        task_failed = self._actor_manager._actor_task_failed

        def failed(tracked_actor_task: Any, exception: Exception) -> None:
            """Tune takes every error but these two, such as the memory monitor's, for a bug of its own."""
            known = isinstance(exception, RayActorError | RayTaskError)
            task_failed(tracked_actor_task, exception if known else RayActorError(error_msg=str(exception)))

        self._actor_manager._actor_task_failed = failed

    def training(self) -> list[int]:
        """The indices of the trials that a worker works on."""
        return [int(trial.trial_id) for trial in self._live_trials if trial.status == TuneTrial.RUNNING]

    def kill(self, index: int, reason: str) -> None:
        """Ends the process that trains a trial, which is then started again, or lost if no retry is left."""
        trial = next(trial for trial in self._live_trials if int(trial.trial_id) == index)
        trial.killed_for = reason
        ray.kill(trial.temporary_state.ray_actor, no_restart=True)

    def _maybe_reuse_cached_actor(self, trial: TuneTrial) -> bool:
        own = self._trial_to_actor.get(trial)
        if own is not None and trial not in self._resetting_trials and self._actor_manager.is_actor_started(own):
            return False
        return bool(super()._maybe_reuse_cached_actor(trial))

    def _maybe_update_trial_queue(self) -> None:
        self._maybe_add_actors()
        super()._maybe_update_trial_queue()

    def _schedule_trial_reset(self, trial: TuneTrial, new_config: dict[str, Any], new_experiment_tag: str) -> None:
        self._resetting_trials.add(trial)
        trial.temporary_state.ray_actor.reset.remote(new_config)
        self._reset.append(trial)

    def _maybe_add_actors(self) -> None:
        super()._maybe_add_actors()
        while self._reset:
            self._on_trial_reset(self._reset.pop(0), True)


class _Search(SearchAlgorithm):  # type: ignore[misc]
    """Tune's source of trials, with the sweep's own identities."""

    def __init__(self, conductor: Conductor, rungs: Sequence[int], resources: dict[str, float], storage: Any) -> None:
        self._conductor, self._rungs = conductor, rungs
        self._resources, self._storage = tune.PlacementGroupFactory([resources]), storage

    def next_trial(self) -> TuneTrial | None:
        trial = self._conductor.next_trial()
        if trial is None:
            return None
        tune_trial = _Trial(
            TrialWorker.__name__,
            config=self._encode(trial),
            trial_id=str(trial.index),
            storage=self._storage,
            placement_group_factory=self._resources,
            max_failures=1,
            stub=True,
        )
        tune_trial.retries_left = self._conductor.retries_left(trial.index)
        return tune_trial

    def tell_attempt(self, tune_trial: _Trial) -> None:
        """The next worker that gets this trial is told which attempt it is."""
        index = int(tune_trial.trial_id)
        tune_trial.retries_left = self._conductor.retries_left(index)
        tune_trial.set_config(self._encode(self._conductor.trial(index)))

    def _encode(self, trial: Trial) -> dict[str, Any]:
        index = trial.index
        judged, left = self._conductor.is_judged(index), self._conductor.retries_left(index)
        return encode(trial, rungs=list(self._rungs), judged=judged, retries_left=left)

    def is_finished(self) -> bool:
        return self._conductor.no_more

    def set_finished(self) -> None:
        self._conductor.cancel_live("stopped by Ray Tune")


class _Trial(TuneTrial):  # type: ignore[misc]
    """Keeps the words of the error that ended its last worker; asks neither a registry nor its worker about itself."""

    death: str = ""
    exception: str = ""
    hopeless: bool = False
    killed_for: str = ""
    retries_left: int = 0

    def init_local_path(self) -> None:
        self.relative_logdir = self.storage.trial_dir_name = str(self.trial_id)

    def set_ray_actor(self, ray_actor: Any) -> None:
        self.temporary_state.ray_actor = ray_actor

    def get_trainable_cls(self) -> type:
        return TrialWorker

    def should_stop(self, result: dict[str, Any]) -> bool:
        """Left to the conductor's answer, so that it is given every report, the last one included, in one place."""
        return False

    def should_recover(self) -> bool:
        return self.retries_left > 0 and not self.hopeless

    def handle_error(self, exc: Any = None) -> None:
        self.death = str(exc) if exc else "the worker process died"
        if isinstance(exc, RayTaskError):
            last_line = self.death.strip().splitlines()[-1]
            self.hopeless = last_line == self.exception  # a third try would end like these two
            self.exception = last_line
        self.run_metadata.num_failures += 1
        self.run_metadata.invalidate_cache()


class _Relay(tune.Callback):  # type: ignore[misc]
    """Tune's events, told to the conductor.

    Attributes:
        error: what the conductor raised, which Tune hands on as a text only.
    """

    def __init__(self, conductor: Conductor, search: _Search) -> None:
        self._conductor, self._search = conductor, search
        self.error: Exception | None = None

    def on_trial_start(self, iteration: int, trials: list[_Trial], trial: _Trial, **info: Any) -> None:
        with self._kept():
            self._conductor.on_started(int(trial.trial_id))

    def report(self, trial: _Trial, result: dict[str, Any]) -> Decision:
        """Hands a worker's report to the conductor; its answer."""
        with self._kept():
            index = int(trial.trial_id)
            decision = self._conductor.on_report(index, json.loads(result["report"]))
            trial.retries_left = self._conductor.retries_left(index)
            if result.get("epoch"):
                trial.exception = ""  # it got further: a like exception later is another one
        return decision

    def on_trial_recover(self, iteration: int, trials: list[_Trial], trial: _Trial, **info: Any) -> None:
        with self._kept():
            reason = trial.killed_for or "the worker process died"
            trial.killed_for = ""
            self._conductor.on_death(int(trial.trial_id), trial.death, reason)
            self._search.tell_attempt(trial)

    def on_trial_error(self, iteration: int, trials: list[_Trial], trial: _Trial, **info: Any) -> None:
        with self._kept():
            self._conductor.on_lost(int(trial.trial_id), trial.killed_for or trial.death)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise


class _Answers(FIFOScheduler):  # type: ignore[misc]
    """What Tune takes for a scheduler: gives the conductor's answer to each report."""

    def __init__(self, relay: _Relay) -> None:
        super().__init__()
        self._relay = relay

    def on_trial_result(self, tune_controller: Any, trial: _Trial, result: dict[str, Any]) -> str:
        decision = self._relay.report(trial, result)
        return str(TrialScheduler.STOP if decision is Decision.STOP else TrialScheduler.CONTINUE)
