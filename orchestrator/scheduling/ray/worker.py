"""The trainable: a warm process that runs trial after trial. Ray Tune calls `step` for each report."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from ray import tune

from orchestrator.base.records import Trial
from orchestrator.scheduling.reports import Reporter


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """Its configuration is one JSON text (`encode`), which Tune neither copies deeply nor flattens."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        told = json.loads(new_config["trial"])
        self._trials_folder = os.path.dirname(told["trial"]["folder"])
        self._sees_folder = os.path.isdir(self._trials_folder)
        self._reporter = Reporter(Trial(**told.pop("trial")), **told)
        return True

    def _setup_logdir(self) -> None:
        """None: a trial writes to its own folder, and nowhere else."""

    def step(self) -> dict[str, Any]:
        if (
            not self._sees_folder
        ):  # a node that joined after the survey; not told in `reset_config`, whose answer nobody awaits
            raise FileNotFoundError(
                f"{self._trials_folder} is not there on {socket.gethostname()}: runs_dir is not shared"
            )
        report = self._reporter.next_report()
        result: dict[str, Any] = {"report": json.dumps(report), tune.result.DONE: report["state"] != "running"}
        if report["epochs"]:
            result["epoch"] = report["epochs"][-1]["epoch"]
        return result


def encode(trial: Trial, *, rungs: list[int], judged: bool, retries_left: int) -> dict[str, Any]:
    """The configuration that a worker gets for a trial.

    Args:
        judged: whether it may be stopped early, so that it has to report at every rung.
    """
    told = {"trial": vars(trial), "rungs": rungs if judged else [], "retries_left": retries_left}
    return {"trial": json.dumps(told)}
