"""compare --deepen: trains more seeds of a sweep's best configurations before it compares."""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import TYPE_CHECKING

from orchestrator.base import errors
from orchestrator.base.text import say
from orchestrator.journal.finding import runs_dir_option

if TYPE_CHECKING:
    from orchestrator.ensembles.deepening import Deepening
    from orchestrator.ensembles.gathering import Gathered


def deepen(gathered: Gathered, trainings: int, *, budget: int | None = None, quiet: bool = False) -> int:
    """Trains what is still missing of so many further trials, sweep by sweep, each as a resume of its own.

    Args:
        budget: members that the winner may have.
        quiet: whether standard output is kept free of what the sweeps say.

    Returns:
        The exit code: that of a resume that was refused or did not come to its end.

    Raises:
        ConfigError, NotReadyError: as `ensembles.deepening.deepenings`, or as a resume.
    """
    from orchestrator.cli.running import resume_command
    from orchestrator.ensembles.deepening import deepenings

    out = sys.stderr if quiet else sys.stdout
    for one in deepenings(gathered, trainings, budget=budget):
        words = _words(one)
        command = shlex.join(["orchestrator", "resume", *words])
        say(f"{one.trainings} more trials, as seeds of the best configurations:  {command}", out)
        with contextlib.redirect_stdout(out):
            code = resume_command(words)
        if code not in (errors.EXIT_OK, errors.EXIT_NO_RESULT):
            return code
    return errors.EXIT_OK


def _words(one: Deepening) -> list[str]:
    seeds = ",".join(f"{trial}={count}" for trial, count in one.seeds.items())
    return [one.folder.name, *(["--seeds", seeds] if seeds else []), *shlex.split(runs_dir_option(one.folder))]
