"""The trainable: a warm process that runs trial after trial. The controller asks it for one report after the other."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import astuple
from typing import Any

from ray import tune

from orchestrator.base.records import State, Trial
from orchestrator.base.rights import Rights, grant, in_force
from orchestrator.scheduling.reports import Reporter


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """Its configuration is one JSON text (`encode`), which Tune neither copies deeply nor flattens."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._free = False
        told = json.loads(new_config["trial"])
        targets, import_paths = told.pop("rights")
        grant(Rights(tuple(targets), tuple(import_paths)))
        self._trials_folder = os.path.dirname(told["trial"]["folder"])
        self._sees_folder = os.path.isdir(self._trials_folder)
        self._reporter = Reporter(Trial(**told.pop("trial")), **told)
        return True

    def _setup_logdir(self) -> None:
        """None: a trial writes to its own folder, and nowhere else."""

    def next_report(self, new_config: dict[str, Any] | None = None) -> str:
        """The next report as JSON, with the time by this machine's clock.

        Args:
            new_config: of another trial, which begins or continues here.

        Raises:
            FileNotFoundError: the sweep's folder is not there: the node joined after the survey.
        """
        if new_config is not None:
            self.reset_config(new_config)
        if not self._sees_folder:
            raise FileNotFoundError(
                f"{self._trials_folder} is not there on {socket.gethostname()}: runs_dir is not shared"
            )
        report = self._reporter.next_report()
        self._free = report["state"] != State.RUNNING
        return json.dumps({**report, "sent_ms": int(time.time() * 1000)})

    def begin_next(self, new_config: dict[str, Any]) -> str:
        """Begins another trial if the one before has ended, and gives its first report; "" while that one goes on.

        Ordered while the trial before still trains, so that the worker need not wait for the driver between the two.
        """
        return self.next_report(new_config) if self._free else ""


def encode(trial: Trial, *, rungs: list[int], judged: bool, retries_left: int) -> dict[str, Any]:
    """The configuration that a worker gets for a trial, with the rights of its driver.

    Args:
        judged: whether it may be stopped early, so that it has to report at every rung.
    """
    told = {
        "trial": vars(trial),
        "rungs": rungs if judged else [],
        "retries_left": retries_left,
        "rights": astuple(in_force()),
    }
    return {"trial": json.dumps(told)}
