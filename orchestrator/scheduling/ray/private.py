"""Every private name of Ray that is used, written for the pinned version.

`PRIVATE` lists them with what each is for; `missing` says which of them an installed Ray no longer has.
"""

from __future__ import annotations

import abc
import contextlib
import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import ray
from ray._raylet import AuthenticationTokenLoader, Config, GcsClient  # type: ignore[attr-defined]
from ray.air.execution import FixedResourceManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import AuthenticationError, RayActorError, RayTaskError
from ray.job_config import JobConfig
from ray.train._internal.storage import StorageContext
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search.search_algorithm import SearchAlgorithm

from orchestrator.base.errors import NotReadyError

__all__ = [
    "Answer", "Controller", "FixedResourceManager", "Queue", "StorageContext", "SweepTrial", "authenticated", "job_without_path",
    "lean_node", "missing", "share_workers",
]  # fmt: skip

PINNED = "2.60.0"
"""The version that these names were read in; `pyproject.toml` pins the same."""

_CONTROLLER = "ray.tune.execution.tune_controller:TuneController"
_ACTORS = "ray.air.execution._internal.actor_manager:RayActorManager"
_TASK = "ray.air.execution._internal.tracked_actor_task:TrackedActorTask"
_TRIAL = "ray.tune.experiment.trial:Trial"
_NODE = "ray._private.node:Node"

PRIVATE = {
    f"{_NODE}.start_monitor": "no autoscaler on a private cluster",
    f"{_NODE}.start_log_monitor": "no log forwarder on a private cluster",
    f"{_NODE}.start_api_server": "no dashboard on a private cluster",
    "ray._private.services:canonicalize_bootstrap_address": "where the head of cluster.address=auto listens",
    "ray._raylet:GcsClient": "asks the head whether it wants a token",
    "ray._raylet:InnerGcsClient.internal_kv_keys": "asks the head whether it wants a token",
    "ray._raylet:Config.initialize": "has Ray read RAY_AUTH_MODE again",
    "ray._raylet:AuthenticationTokenLoader.has_token": "whether there is a token to show",
    "ray._private.state:actors": "on which node a worker ran that is gone",
    "ray.air.execution:FixedResourceManager": "places for trials without placement groups",
    "ray.train._internal.storage:StorageContext": "the folder that Tune insists on",
    "ray.tune.execution.class_cache:_ActorClassCache.get": "actors without a runtime environment",
    f"{_CONTROLLER}._schedule_trial_reset": "a freed worker gets its next trial in one message",
    f"{_CONTROLLER}._on_trial_reset": "a freed worker gets its next trial in one message",
    f"{_CONTROLLER}._schedule_trial_train": "a freed worker gets its next trial in one message",
    f"{_CONTROLLER}._schedule_trial_task": "a freed worker gets its next trial in one message",
    f"{_CONTROLLER}._trial_task_failure": "a freed worker gets its next trial in one message",
    f"{_CONTROLLER}._on_training_result": "reports without the metrics and tables of Tune",
    f"{_CONTROLLER}.checkpoint": "no snapshot of an experiment",
    f"{_CONTROLLER}._maybe_add_actors": "a freed worker gets its next trial in one message",
    f"{_CONTROLLER}._process_trial_failure": "a trial that waited at a worker that died waits elsewhere",
    f"{_CONTROLLER}._set_trial_status": "a worker goes from one trial to the next without being asked",
    f"{_CONTROLLER}._maybe_reuse_cached_actor": "a worker that starts up keeps its trial",
    f"{_ACTORS}._actor_task_failed": "deaths that Tune would take for its own bugs",
    f"{_ACTORS}._actor_task_resolved": "a worker goes from one trial to the next without being asked",
    f"{_TASK}": "a worker goes from one trial to the next without being asked",
    f"{_ACTORS}.is_actor_started": "a worker that starts up keeps its trial",
    f"{_ACTORS}.cleanup": "ends all workers at once",
    f"{_TRIAL}.init_local_path": "trials without a folder of Tune's",
    f"{_TRIAL}.set_ray_actor": "workers that are not asked where they run",
    f"{_TRIAL}.get_trainable_cls": "a trainable without a registry",
    f"{_TRIAL}.should_recover": "retries as the conductor counts them",
    f"{_TRIAL}.handle_error": "the words of the error that ended a worker",
    f"{_TRIAL}.set_config": "the next attempt's configuration",
}
"""`module:name` -> what it is used for."""

PRIVATE_FIELDS = {
    _CONTROLLER: (
        "_actor_manager",
        "_actor_to_trial",
        "_live_trials",
        "_resetting_trials",
        "_running_trials",
        "_trial_to_actor",
    ),
    _ACTORS: ("_actor_task_events", "_tracked_actors_to_task_futures"),
    _TRIAL: ("temporary_state", "run_metadata", "storage", "relative_logdir"),
    "ray.job_config:JobConfig": ("_py_driver_sys_path",),
    "ray.tune.execution.class_cache:_ActorClassCache": ("_cache",),
}
"""`module:class` -> the attributes of its objects that are used: each is set in the class's source."""

NODE_DIED = ("node has died", "node died", "node was terminated", "node is dead")
"""What the error of a worker says whose machine was lost."""


RAYLET_TIMEOUT_S = 2.0

SHORT_S = 2.0
"""A trial that ends with its first report, and within this time, is short: another one may wait at its worker."""


def node_is_gone(actor_id: str) -> bool:
    """Whether nothing answers any more where an actor ran.

    The first that is heard of a lost machine is that the connection to its workers broke; that their node is dead, Ray says up to
    half a minute later.
    """
    if not actor_id:
        return False
    ran_on = ray._private.state.actors(actor_id).get("Address", {}).get("NodeID")
    node = next((node for node in ray.nodes() if node["NodeID"] == ran_on), None)
    if node is None or not node["Alive"]:
        return node is not None
    try:
        address = (node["NodeManagerAddress"], node["NodeManagerPort"])
        socket.create_connection(address, RAYLET_TIMEOUT_S).close()
    except OSError:
        return True
    return False


def missing() -> list[str]:
    """What this Ray lacks of `PRIVATE` and `PRIVATE_FIELDS`, a sentence each."""
    import inspect

    gone = [f"{name} ({use})" for name, use in PRIVATE.items() if _find(name) is None]
    for owner, names in PRIVATE_FIELDS.items():
        source = inspect.getsource(cls) if (cls := _find(owner)) else ""
        gone += [f"{owner}.{name}" for name in names if f"self.{name}" not in source]
    return [f"ray {ray.__version__} has no {name}; {__name__} was written for {PINNED}" for name in gone]


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


# connecting ----------------------------------------------------------------------------------------------------------

AUTH_MODE = "RAY_AUTH_MODE"

_TOKEN = "copy ~/.ray/auth_token from its head, or set RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"


@contextlib.contextmanager
def authenticated(address: str) -> Iterator[str]:
    """Shows a token within the block if, and only if, the cluster asks for one; gives `host:port` of its head.

    Both mistakes cost a sweep: without a token a cluster that wants one refuses the driver, and a driver that wants one itself
    refuses every answer of workers that have none, so that all trials fail.

    Raises:
        NotReadyError: it asks for a token and there is none, or refuses the one there is.
        ConnectionError: no head is found.
    """
    from ray._private.services import canonicalize_bootstrap_address

    before = os.environ.get(AUTH_MODE)
    try:
        head = canonicalize_bootstrap_address(address) or address
        _set_mode("disabled")
        with _quiet():
            if not _is_let_in(head):
                if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
                    raise NotReadyError(
                        f"the Ray cluster at {head} asks for a token, and this machine has none; {_TOKEN}"
                    )
                _set_mode("token")
                if not _is_let_in(head):
                    raise NotReadyError(f"the Ray cluster at {head} refuses this machine's token; {_TOKEN}")
        yield head
    finally:
        _set_mode(before)


def _set_mode(mode: str | None) -> None:
    if mode is None:
        os.environ.pop(AUTH_MODE, None)
    else:
        os.environ[AUTH_MODE] = mode
    Config.initialize("")


def _is_let_in(head: str) -> bool:
    try:
        GcsClient(address=head).internal_kv_keys(b"", b"orchestrator", timeout=10)
    except AuthenticationError:
        return False
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Ray's C++ from writing about a refusal that is expected; it writes to the descriptor, past `sys.stderr`."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def lean_node() -> Iterator[None]:
    """Keeps an autoscaler, a log forwarder and a dashboard from starting: 3 s and 300 MB that a private cluster does not use.

    There is no public switch for them.
    """
    from ray._private.node import Node

    def nothing(*args: object, **kwargs: object) -> None:
        del args, kwargs

    unused = {name: getattr(Node, name) for name in ("start_monitor", "start_log_monitor", "start_api_server")}
    try:
        for name in unused:
            setattr(Node, name, nothing)
        yield
    finally:
        for name, method in unused.items():
            setattr(Node, name, method)


class _Sealed(list[str]):
    """A list to which nobody else adds."""

    def extend(self, values: object) -> None:
        """Takes nothing."""


def job_without_path() -> JobConfig:
    """A job whose workers have none of the driver's folders on their path.

    Ray would put the driver's current folder first on it, where a user's `models/` or `yaml.py` would be imported instead of what
    we mean. There is no public switch for that but a working directory, which is copied.
    """
    job = JobConfig()
    job._py_driver_sys_path = _Sealed()
    return job


# Ray Tune ------------------------------------------------------------------------------------------------------------


def share_workers() -> None:
    """Has Tune create actors without a runtime environment of their own.

    The one that it asks for only repeats variables which workers inherit anyway; the workers that Ray has started and warmed up
    do not match it, so that every sweep would wait for a second set of them.
    """

    def get(cache: Any, trainable: type) -> Any:
        if trainable not in cache._cache:
            cache._cache[trainable] = ray.remote(trainable)
        return cache._cache[trainable]

    _ActorClassCache.get = get


class Answer(Enum):
    """What follows a worker's report."""

    GO_ON = "the worker trains on"
    STOP = "the worker waits, and its trial ends here"
    ENDED = "the trial ended by itself"


class Queue(SearchAlgorithm, abc.ABC):  # type: ignore[misc]
    """Where the controller takes its trials from: Tune's own interface, and trials that are handed out before their turn."""

    @abc.abstractmethod
    def prepare(self, workers: int) -> None:
        """Has trials ready: one for whichever worker falls free first, and one more for each of `workers`."""

    @abc.abstractmethod
    def take_ahead(self) -> SweepTrial | None:
        """A trial that will wait at one worker for its turn; None unless another stays ready for the other workers."""

    @abc.abstractmethod
    def begin(self, trial: SweepTrial) -> None:
        """The worker has begun a trial that was taken ahead."""

    @abc.abstractmethod
    def give_back(self, trial: SweepTrial, *, lost: bool) -> None:
        """The trial did not begin where it waited; `lost` where that worker may not be heard of again."""


class Controller(TuneController):  # type: ignore[misc]
    """Tune's controller without the waits that short trials feel.

    A worker that is starting up is waited for: Tune would give its trial to the first worker that falls free and end the one
    that starts, so that where trials are shorter than the start of a process all but one worker are never born. A worker that
    falls free gets its next trial with the order to train it, in one message. And where trials are short,
    each worker knows its next trial beforehand and begins it without asking.

    Nothing is flattened, stamped, tabulated or saved of a report: it is a text for `on_report`, which says what follows.

    Args:
        queue: gives the trials.
        on_start: a worker begins a trial.
        on_report: takes a trial and its worker's report.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        on_start: Callable[[SweepTrial], None],
        on_report: Callable[[SweepTrial, str], Answer],
        **settings: Any,
    ) -> None:
        self._reset: list[SweepTrial] = []
        self._ahead: dict[SweepTrial, tuple[SweepTrial, Any]] = {}
        self._trials_are_short = False
        self._queue, self._on_start, self._on_report = queue, on_start, on_report
        super().__init__(search_alg=queue, **settings)
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

    def end_workers(self) -> None:
        """Ends all workers at once."""
        self._actor_manager.cleanup()

    def checkpoint(self, force: bool = False, wait: bool = False) -> None:
        """None: the journal holds what a resume needs."""

    # a worker gets a trial

    def _maybe_reuse_cached_actor(self, trial: TuneTrial) -> bool:
        own = self._trial_to_actor.get(trial)
        if own is not None and trial not in self._resetting_trials and self._actor_manager.is_actor_started(own):
            return False
        return bool(super()._maybe_reuse_cached_actor(trial))

    def _maybe_add_actors(self) -> None:
        super()._maybe_add_actors()
        while self._reset:
            self._on_trial_reset(self._reset.pop(0), True)
        self._look_ahead()

    def _schedule_trial_reset(self, trial: SweepTrial, new_config: dict[str, Any], new_experiment_tag: str) -> None:
        self._resetting_trials.add(trial)
        trial.told_with_train = new_config
        self._reset.append(trial)

    def _schedule_trial_train(self, trial: SweepTrial) -> None:
        told, trial.told_with_train = trial.told_with_train, None
        trial.ordered_s = time.monotonic()
        self._schedule_trial_task(
            trial=trial,
            method_name="next_report",
            args=(told,) if told else (),
            on_result=self._on_training_result,
            on_error=self._trial_task_failure,
        )

    # a worker reports

    def _on_training_result(self, trial: SweepTrial, result: str) -> None:
        answer = self._on_report(trial, result)
        if trial.reports == 1:
            took_s = time.monotonic() - trial.ordered_s
            self._trials_are_short = answer is Answer.ENDED and took_s < SHORT_S
        following, order = self._ahead.pop(trial, (None, None))
        if following and answer is Answer.ENDED:
            following.began_ms = trial.reported_ms
            following.ordered_s = time.monotonic()
            self._hand_over(trial, following, order)
            return
        if following:
            self._queue.give_back(following, lost=False)
        if answer is Answer.GO_ON:
            self._schedule_trial_train(trial)
        else:
            self.stop_trial(trial)

    def _process_trial_failure(self, trial: SweepTrial, exception: Exception) -> None:
        super()._process_trial_failure(trial, exception)
        following, _ = self._ahead.pop(trial, (None, None))
        if following:
            self._queue.give_back(following, lost=True)

    # the trial after that

    def _look_ahead(self) -> None:
        """Orders each worker that has a short trial to begin another one after it."""
        workers = (
            [trial for trial in self._running_trials if trial not in self._ahead] if self._trials_are_short else []
        )
        self._queue.prepare(len(workers))
        for trial in workers:
            following = self._queue.take_ahead()
            if following is None:
                return
            self._ahead[trial] = following, trial.temporary_state.ray_actor.begin_next.remote(following.config)

    def _hand_over(self, trial: SweepTrial, following: SweepTrial, order: Any) -> None:
        """The worker of a trial that has ended works on the following one already: `order` will give its first report."""
        worker, handle = self._trial_to_actor.pop(trial), trial.temporary_state.ray_actor
        del self._actor_to_trial[worker]
        trial.set_ray_actor(None)
        self.stop_trial(trial)
        self._queue.begin(following)
        self.add_trial(following)
        following.init_local_path()
        self._trial_to_actor[following], self._actor_to_trial[worker] = worker, following
        following.set_ray_actor(handle)
        self._on_start(following)
        self._set_trial_status(following, TuneTrial.RUNNING)
        task = TrackedActorTask(
            tracked_actor=worker,
            on_result=lambda _, report: self._on_training_result(following, report),
            on_error=lambda _, error: self._trial_task_failure(following, error),
        )
        manager = self._actor_manager
        manager._actor_task_events.track_future(
            future=order,
            on_result=lambda report: manager._actor_task_resolved(task, report),
            on_error=lambda error: manager._actor_task_failed(task, error),
        )
        manager._tracked_actors_to_task_futures[worker].add(order)


class SweepTrial(TuneTrial):  # type: ignore[misc]
    """Keeps the words of the error that ended its last worker; asks neither a registry nor its worker about itself.

    Attributes:
        trainable: what Tune runs.
        death: the words of the error.
        exception: the last line of an exception that the trial raised; the same one twice in a row is `hopeless`.
        killed_for: why our own side ended the worker.
        lost_node: whether the machine died, and not the trial.
        retries_left: as the conductor counts.
        worker_id: of the actor that trains it, or did last.
        told_with_train: the configuration that a worker that was reused gets with the order to train.
        reports: how many came, the last at `reported_ms` by its worker's clock.
        began_ms: when it began, where its worker did not wait for the order.
        ordered_s: when its worker was last told to train, on a clock that never jumps.
    """

    trainable: type
    death: str = ""
    exception: str = ""
    hopeless: bool = False
    killed_for: str = ""
    lost_node: bool = False
    retries_left: int = 0
    told_with_train: dict[str, Any] | None = None
    reports: int = 0
    reported_ms: int = 0
    began_ms: int | None = None
    ordered_s: float = 0.0
    worker_id: str = ""

    def init_local_path(self) -> None:
        self.relative_logdir = self.storage.trial_dir_name = str(self.trial_id)

    def set_ray_actor(self, ray_actor: Any) -> None:
        self.temporary_state.ray_actor = ray_actor
        if ray_actor is not None:  # its number alone: a handle would keep a worker alive that is let go
            self.worker_id = ray_actor._actor_id.hex()

    def get_trainable_cls(self) -> type:
        return self.trainable

    def should_recover(self) -> bool:
        return (self.retries_left > 0 or self.lost_node) and not self.hopeless

    def handle_error(self, exc: Any = None) -> None:
        self.death = str(exc) if exc else "the worker process died"
        told = any(words in self.death for words in NODE_DIED)
        self.lost_node = isinstance(exc, RayActorError) and (told or node_is_gone(self.worker_id))
        if isinstance(exc, RayTaskError):
            last_line = self.death.strip().splitlines()[-1]
            self.hopeless = last_line == self.exception  # a third try would end like these two
            self.exception = last_line
        self.run_metadata.num_failures += 1
        self.run_metadata.invalidate_cache()
