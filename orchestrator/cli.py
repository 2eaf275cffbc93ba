"""The command line. Heavy imports stay inside the commands, so that the first line is on the terminal at once."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from orchestrator import errors
from orchestrator.errors import ConfigError, OrchestratorError, Problem, nearest
from orchestrator.progress import duration, say, table, word

USAGE = """\
orchestrator: hyperparameter sweeps of deep vision networks

  orchestrator launch [overrides]      run a sweep; without arguments 16 small trials, in under a minute
  orchestrator dashboard               look at all sweeps in MLflow
  orchestrator train [overrides]       one trial alone, with a progress bar

  orchestrator list [group]            what there is: models, data sets, optimizers, search spaces, ...
  orchestrator sync NAME               ship to MLflow what is still waiting of a sweep
  orchestrator cache [--clear]         where decoded images lie, and how much

A swept value is the search space:
  orchestrator launch model=resnet_cifar optimizer.lr='tag(log,interval(1e-4,1))' norm=batch,group
  orchestrator launch search=weight_scale trials=40
  orchestrator launch --plan ...       shows what would run; --cfg job prints the configuration

orchestrator COMMAND --help says more.
"""


class _Parser(argparse.ArgumentParser):
    """Refuses as everything else does: one message, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(Problem(self.prog, message))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (design: 0 done, 2 bad input, 3 not ready, 4 no result, ...)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            say(USAGE)
            return errors.EXIT_OK
        name, *rest = arguments
        if name not in COMMANDS:
            problem = Problem(
                name, f"is not a command; there are {', '.join(COMMANDS)}", nearest=nearest(name, COMMANDS)
            )
            raise ConfigError(problem)
        return COMMANDS[name](rest)
    except SystemExit as stop:  # argparse's --help
        return int(stop.code or 0)
    except BrokenPipeError:
        _forget_stdout()
        return errors.EXIT_OK
    except KeyboardInterrupt as stop:
        return 128 + int(stop.args[0] if stop.args else signal.SIGINT)
    except OrchestratorError as error:
        _complain(error)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        say("this is a bug in orchestrator; the lines above say where", sys.stderr)
        return errors.EXIT_BUG


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


# launch and train -------------------------------------------------------------------------------------------------------


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="Hydra's grammar: key=value, group=choice, key=a,b sweeps")
    parser.add_argument("--cfg", choices=["job"], help="print the composed configuration and stop")
    parser.add_argument("--config-dir", type=Path, help="a folder with more choices, or with another root file")
    parser.add_argument("--config-name", default="launch", help="the root file, without .yaml")
    parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)


def _launch(argv: Sequence[str]) -> int:
    parser = _Parser(prog="orchestrator launch", description="Run a sweep.")
    _add_config_arguments(parser)
    parser.add_argument("--plan", action="store_true", help="print what would run and stop")
    options = parser.parse_intermixed_args(argv)
    if options.cfg:
        return _print_config(options)
    from orchestrator.plan import describe_plan

    if options.plan:
        for line in describe_plan(_plan_here(options)):
            say(line)
        return errors.EXIT_OK
    say("checking the sweep ...")
    with _sigterm_as_interrupt():
        wait_for_ray = _begin_import_of_ray()
        plan = _plan_here(options) if "torch" in sys.modules else _plan_in_child(argv)
        from orchestrator.sweep import launch

        for note in plan.notes:
            say(note)
        result = launch(plan, command=["orchestrator", "launch", *argv], say=say, import_ray=wait_for_ray)
    for line in _closing_lines(plan, result):
        say(line)
    return errors.EXIT_OK if result.has_result else errors.EXIT_NO_RESULT


def _plan_here(options: argparse.Namespace) -> Any:
    from orchestrator.config import plan

    return plan(options.overrides, config_dir=options.config_dir, config_name=options.config_name)


def _plan_in_child(argv: Sequence[str]) -> Any:
    """Plans in a process of its own: the driver stays without torch and Hydra, and imports Ray meanwhile.

    Raises:
        SystemExit: the child refused; it has said why.
    """
    from orchestrator.plan import SweepPlan

    child = subprocess.run([sys.executable, "-m", "orchestrator", "_plan", *argv], stdout=subprocess.PIPE, check=False)
    if child.returncode:
        raise SystemExit(child.returncode)
    return SweepPlan.from_json(child.stdout.decode())


def _print_plan(argv: Sequence[str]) -> int:
    parser = _Parser(prog="orchestrator _plan")
    _add_config_arguments(parser)
    say(_plan_here(parser.parse_intermixed_args(argv)).to_json())
    return errors.EXIT_OK


def _print_config(options: argparse.Namespace) -> int:
    from orchestrator.config import compose_job

    say(compose_job(options.overrides, config_dir=options.config_dir, config_name=options.config_name))
    return errors.EXIT_OK


def _begin_import_of_ray() -> Callable[[], None]:
    """Imports Ray in a thread; what is returned waits for it."""

    def work() -> None:
        from orchestrator.scheduling.cluster import set_environment

        set_environment()
        import orchestrator.scheduling.tuner  # noqa: F401

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread.join


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _closing_lines(plan: Any, result: Any) -> list[str]:
    """The best trials, where everything lies, and what to do next."""
    totals = ", ".join(f"{number} {state}" for state, number in result.totals.items()) or "no trial ended"
    lines = ["", f"{result.uid}: {totals} in {duration(result.seconds)} ({result.closed_for})"]
    metric = plan.base["metric"]
    if result.best:
        keys = list(dict.fromkeys(key for row in result.best for key in row["params"]))
        tests = [key for key in ("test/accuracy",) if any(key in row["metrics"] for row in result.best)]
        rows = [
            [
                str(row["trial"]),
                f"{row['value']:.4f}",
                *(f"{row['metrics'][key]:.4f}" if key in row["metrics"] else "" for key in tests),
                str(row["epoch"]),
                *(word(row["params"].get(key, "")) for key in keys),
            ]
            for row in result.best
        ]
        lines += ["", "best trials:", *table(["trial", metric, *tests, "epoch", *keys], rows)]
    elif result.last_error:
        lines += ["", "no trial completed; the last error was:", result.last_error.strip()]
    lines += ["", f"everything lies in  {result.folder}"]
    if result.ship is not None and result.waiting_events > 0:
        lines.append(
            f"MLflow has not taken {result.waiting_events} events ({result.ship.error or 'still busy'}); "
            f"ship them later:  orchestrator sync {result.uid}{_runs_dir_option(plan)}"
        )
    lines += [
        "next:",
        f"  orchestrator dashboard{_runs_dir_option(plan)}    curves and comparisons in MLflow",
        *([f"  {_train_command(plan, result.best[0]['params'])}    the best trial alone"] if result.best else []),
        "  orchestrator launch search=all trials=64    a larger search; orchestrator list search names more",
    ]
    return lines


def _runs_dir_option(plan: Any) -> str:
    folder = Path(plan.root.runs_dir).resolve()
    return "" if folder == Path("runs").resolve() else f" --runs-dir {folder}"


def _train_command(plan: Any, params: dict[str, Any]) -> str:
    chosen = [f"{group}={plan.base['choices'][group]}" for group in ("data", "model") if group not in params]
    return " ".join(["orchestrator train", *chosen, *(f"{key}={value}" for key, value in params.items())])


def _train(argv: Sequence[str]) -> int:
    parser = _Parser(prog="orchestrator train", description="Train one configuration here, without Ray and MLflow.")
    _add_config_arguments(parser)
    parser.add_argument(
        "--folder", type=Path, help="keep checkpoints, weights and predictions here, and continue from them"
    )
    options = parser.parse_intermixed_args(argv)
    if options.cfg:
        return _print_config(options)
    from orchestrator.train import train_one

    return train_one(
        options.overrides, config_dir=options.config_dir, config_name=options.config_name, folder=options.folder
    )


# the other commands -----------------------------------------------------------------------------------------------------


def _dashboard(argv: Sequence[str]) -> int:
    parser = _Parser(
        prog="orchestrator dashboard", description="Serve MLflow's UI for the sweeps of a folder, on 127.0.0.1."
    )
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--port", type=int, default=5000, help="0 picks a free one")
    parser.add_argument("--uri", help="an MLflow server to show instead")
    options = parser.parse_args(argv)
    from orchestrator.tracking.dashboard import serve

    serve(options.runs_dir, port=options.port, uri=options.uri, say=say)
    return errors.EXIT_OK


def _sync(argv: Sequence[str]) -> int:
    parser = _Parser(prog="orchestrator sync", description="Ship to MLflow what is still waiting of a sweep.")
    parser.add_argument("name")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    options = parser.parse_args(argv)
    from orchestrator.sweep import find_sweep
    from orchestrator.tracking.sync import sync

    say(str(sync(find_sweep(options.runs_dir, options.name))))
    return errors.EXIT_OK


def _list(argv: Sequence[str]) -> int:
    parser = _Parser(prog="orchestrator list", description="List the choices of a group, or the groups.")
    parser.add_argument("group", nargs="?")
    parser.add_argument("--config-dir", type=Path)
    options = parser.parse_args(argv)
    from orchestrator.catalogue import choices, groups

    if options.group is None:
        for group in groups(options.config_dir):
            say(f"{group:<12} {', '.join(name for name, _ in choices(group, options.config_dir))}")
        return errors.EXIT_OK
    if options.group not in groups(options.config_dir):
        known = groups(options.config_dir)
        raise ConfigError(
            Problem(
                options.group, f"is not a group; there are {', '.join(known)}", nearest=nearest(options.group, known)
            )
        )
    for line in table(["choice", "what it is"], [list(row) for row in choices(options.group, options.config_dir)]):
        say(line)
    return errors.EXIT_OK


def _cache(argv: Sequence[str]) -> int:
    parser = _Parser(prog="orchestrator cache", description="Show, or clear, the folder of decoded images.")
    parser.add_argument("--clear", action="store_true")
    options = parser.parse_args(argv)
    from orchestrator.training.data import cache_folder, cache_size, clear_cache

    folder = cache_folder()
    if options.clear:
        say(f"freed {clear_cache(folder) / 1e6:.1f} MB in {folder}")
    else:
        say(f"{cache_size(folder) / 1e6:.1f} MB in {folder}")
    return errors.EXIT_OK


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "launch": _launch,
    "train": _train,
    "dashboard": _dashboard,
    "list": _list,
    "sync": _sync,
    "cache": _cache,
    "_plan": _print_plan,
}
