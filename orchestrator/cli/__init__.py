"""The command line. Heavy imports stay inside the commands, so that the first line is on the terminal at once."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from orchestrator import __version__
from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, NotReadyError, OrchestratorError, Problem, nearest
from orchestrator.base.processes import python
from orchestrator.base.secrets import PASSWORD, take_out
from orchestrator.base.signals import Interrupted
from orchestrator.base.text import say

USAGE = """\
orchestrator: hyperparameter sweeps of deep vision networks

  orchestrator launch [overrides]      run a sweep; without arguments 16 small trials, in under a minute
  orchestrator dashboard [NAME]        see the newest sweep, or the named one, in MLflow
  orchestrator resume NAME             continue an interrupted sweep; --more 20 adds trials
  orchestrator train [overrides]       train one configuration here; from=NAME/7 repeats a trial bit for bit

  orchestrator report [NAME]           one HTML file with linked figures; --open shows it
  orchestrator results [NAME]          all trials as a table, best first; --csv, --json, --epochs for programs
  orchestrator compare NAME [NAME ...] ensembles of trials: which is best, by how much, how sure, at what cost
  orchestrator claims [NAME]           whether what the lectures claim holds in a sweep of conf/experiment; --all runs them
  orchestrator diagnose [overrides]    what passes through a network, layer by layer; from=NAME/7 for a trained one
  orchestrator status [NAME]           progress of all sweeps, or of one in full
  orchestrator predict MODEL IMAGE...  classify image files; MODEL is a sweep, a trial, a comparison, models:/NAME@champion
  orchestrator show NAME/7             a trial: the command that reproduces it, its attempts, its files
  orchestrator stop NAME               stop a running sweep cleanly, from another terminal
  orchestrator delete NAME             delete a sweep: journal, checkpoints, MLflow runs
  orchestrator adopt FOLDER            give a copied folder of sweeps an identity of its own

  orchestrator list [GROUP [CHOICE]]   the choices: models, data sets, optimizers, search spaces, ...
  orchestrator sync NAME               send a sweep's waiting events to MLflow
  orchestrator verify NAME             check a sweep's journal, MLflow runs and files against each other
  orchestrator cache [--clear]         show or clear the cache of decoded images
  orchestrator completion SHELL        tab completion for bash, zsh or fish

A swept value is the search space:
  orchestrator launch model=resnet_cifar optimizer.lr='tag(log,interval(1e-4,1))' norm=batch,group
  orchestrator launch search=weight_scale trials=40
  orchestrator launch --plan ...       shows what would run; --cfg job prints the configuration

orchestrator COMMAND --help says more; --version says what runs here.
"""


COMMANDS = {
    "launch": "running:launch_command",
    "resume": "running:resume_command",
    "train": "running:train_command",
    "status": "keeping:status_command",
    "show": "keeping:show_command",
    "predict": "predicting:predict_command",
    "stop": "keeping:stop_command",
    "delete": "keeping:delete_command",
    "adopt": "keeping:adopt_command",
    "dashboard": "looking:dashboard",
    "report": "reporting:report_command",
    "results": "tabling:results_command",
    "compare": "comparing:compare_command",
    "claims": "claiming:claims_command",
    "diagnose": "diagnosing:diagnose_command",
    "list": "listing:list_command",
    "sync": "looking:sync_command",
    "verify": "looking:verify",
    "cache": "looking:cache",
    "completion": "completing:completion_command",
    "_complete": "completing:complete_command",
    "_plan": "running:write_plan",
}
"""Command -> `module:function` in this package; the function takes the arguments and returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (design: 0 done, 2 bad input, 3 not ready, 4 no result, ...)."""
    arguments = take_out(sys.argv[1:] if argv is None else argv)
    try:
        _check_current_folder()
        if argv is None and arguments != sys.argv[1:]:
            _begin_again(arguments)
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            say(USAGE)
            return errors.EXIT_OK
        if arguments[0] in ("-V", "--version", "version"):
            say(_versions())
            return errors.EXIT_OK
        name, *rest = arguments
        if name not in COMMANDS:
            known = [command for command in COMMANDS if not command.startswith("_")]
            raise ConfigError(_unknown(arguments, known))
        return function_of(name)(rest)
    except SystemExit as stop:  # argparse's --help
        return int(stop.code or 0)
    except BrokenPipeError:
        _forget_stdout()
        return errors.EXIT_OK
    except KeyboardInterrupt as stop:
        return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)
    except OrchestratorError as error:
        _complain(error)
        return error.exit_code
    except Exception:
        say(traceback.format_exc().rstrip(), sys.stderr)
        say("this is a bug in orchestrator; the lines above say where", sys.stderr)
        return errors.EXIT_BUG


def _unknown(arguments: Sequence[str], known: Sequence[str]) -> Problem:
    """What is said of a first word that is no command."""
    from orchestrator.cli.parser import after_command

    name, why = arguments[0], "is not a command"
    if (hint := after_command(arguments, known)) is not None:
        return Problem(name, why, hint=hint)
    return Problem(name, why, nearest=nearest(name, known), known=(*known,), listed_by="orchestrator --help")


def function_of(command: str) -> Callable[[Sequence[str]], int]:
    """What carries a command out."""
    module, _, function = COMMANDS[command].partition(":")
    found: Callable[[Sequence[str]], int] = getattr(importlib.import_module(f"orchestrator.cli.{module}"), function)
    return found


def _versions() -> str:
    """What runs here, read from what is installed and not imported."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = [f"Python {platform.python_version()}"]
    for library in ("torch", "ray", "mlflow"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{library} {version(library)}")
    return f"orchestrator {__version__} ({', '.join(found)})"


def _check_current_folder() -> None:
    """
    Raises:
        NotReadyError: it was removed, so that no relative path means anything.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise NotReadyError("the current folder is gone; change to another one, and type the command again") from error


def _begin_again(arguments: Sequence[str]) -> None:
    """This program again, under a command line that no list of processes shows a password of; it is in the environment now."""
    what = "what may be a password was taken out of the command line and is recorded nowhere"
    if os.environ.get(PASSWORD):
        what += "; for later commands set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
    say(what, sys.stderr)
    interpreter = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    command = python(*interpreter, *arguments)
    os.execv(command[0], command)


def _complain(error: OrchestratorError) -> None:
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        say(f"{len(error.problems)} problems, nothing was started:", sys.stderr)
        for problem in error.problems:
            say(f"  {problem}", sys.stderr)
    else:
        say(f"error: {error}", sys.stderr)


def _forget_stdout() -> None:
    """The reader of a pipe has gone: what is still buffered goes nowhere, quietly."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
