"""Places where a test can kill the process: each step that a crash can split has one before and one after it.

`ORCHESTRATOR_FAILPOINT=name:n[:once_file]` ends the process that passes `name` for the n-th time with SIGKILL. With `once_file`
only the process that manages to create that file dies, so that the resumed sweep or the retried trial goes on. Without the
variable a failpoint is one comparison with None.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator, Mapping
from typing import NoReturn

from orchestrator.base.errors import ConfigError, Problem, nearest

VARIABLE = "ORCHESTRATOR_FAILPOINT"

NAMES: Mapping[str, str] = {
    "opening.before": "sweep.launching",
    "opening.after": "sweep.launching",
    "resuming.before": "sweep.resuming",
    "resuming.after": "sweep.resuming",
    "closing.before": "sweep.session",
    "closing.after": "sweep.session",
    "publishing.before": "sweep.reporting",
    "publishing.after": "sweep.reporting",
    "model.before": "sweep.published",
    "model.after": "sweep.published",
    "page.before": "sweep.report_process",
    "page.after": "sweep.report_process",
    "suggestion.before": "scheduling.conductor",
    "suggestion.after": "scheduling.conductor",
    "ending.before": "scheduling.conductor",
    "ending.after": "scheduling.conductor",
    "commit.before": "journal.file",
    "commit.after": "journal.file",
    "attempt.before": "training.checkpoint",
    "attempt.after": "training.checkpoint",
    "checkpoint.before": "training.checkpoint",
    "checkpoint.after": "training.checkpoint",
    "best.before": "training.checkpoint",
    "best.after": "training.checkpoint",
    "average.before": "training.checkpoint",
    "average.after": "training.checkpoint",
    "snapshot.before": "training.checkpoint",
    "snapshot.after": "training.checkpoint",
    "predictions.before": "training.checkpoint",
    "predictions.after": "training.checkpoint",
    "report.before": "scheduling.reports",
    "report.after": "scheduling.reports",
    "sqlite.create.before": "stores.sqlite",
    "sqlite.create.after": "stores.sqlite",
    "sqlite.status.before": "stores.sqlite",
    "sqlite.status.after": "stores.sqlite",
    "sqlite.commit.before": "stores.sqlite",
    "sqlite.commit.after": "stores.sqlite",
    "server.create.before": "stores.client",
    "server.create.after": "stores.client",
    "server.batch.before": "stores.client",
    "server.batch.after": "stores.client",
    "server.status.before": "stores.client",
    "server.status.after": "stores.client",
    "artifact.before": "stores.artifacts",
    "artifact.after": "stores.artifacts",
    "cursor.before": "journal.cursor",
    "cursor.after": "journal.cursor",
}
"""Failpoint -> the module of `orchestrator` that passes it. Those of training and reports end a worker, those of stores and the
journal's cursor the shipper, those of `page` what writes a report, the others the driver."""


class _Armed:
    """One failpoint that is to fire."""

    def __init__(self, name: str, passing: int, once_file: str | None) -> None:
        self.name, self.passing, self.once_file = name, passing, once_file
        self._passings: Iterator[int] = itertools.count(1)  # threads may pass at once

    def passed(self) -> None:
        if next(self._passings) != self.passing:
            return
        if self.once_file is not None:
            try:
                os.close(os.open(self.once_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                return
        _die()


def failpoint(name: str) -> None:
    """Ends the process here if the environment asks for it."""
    if _armed is not None and _armed.name == name:
        _armed.passed()


def parse(text: str) -> tuple[str, int, str | None]:
    """The parts of `name:n[:once_file]`.

    Raises:
        ConfigError: it names no failpoint, or n is not a positive number.
    """
    name, _, rest = text.partition(":")
    number, _, once_file = rest.partition(":")
    if name not in NAMES:
        raise ConfigError(Problem(VARIABLE, "names no failpoint", text, nearest=nearest(name, NAMES)))
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ConfigError(Problem(VARIABLE, "must be name:n[:once_file] with n from 1", text))
    return name, int(number), once_file or None


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived SIGKILL")


def _from_environment() -> _Armed | None:
    text = os.environ.get(VARIABLE)
    return _Armed(*parse(text)) if text else None


_armed = _from_environment()
