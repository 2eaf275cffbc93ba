"""launch and train."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import errors
from orchestrator.cli.parser import Parser
from orchestrator.errors import NotReadyError
from orchestrator.progress import duration, say, table, word
from orchestrator.signals import interruptible

T = TypeVar("T")


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="Hydra's grammar: key=value, group=choice, key=a,b sweeps")
    parser.add_argument("--cfg", choices=["job"], help="print the composed configuration and stop")
    parser.add_argument("--config-dir", type=Path, help="a folder with more choices, or with another root file")
    parser.add_argument("--config-name", default="launch", help="the root file, without .yaml")


def launch_command(argv: Sequence[str]) -> int:
    parser = Parser(prog="orchestrator launch", description="Run a sweep.")
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
    with interruptible() as check:
        wait_for_ray = _in_thread(_import_ray)
        tracking = _in_thread(lambda: _early_look_at_server(options.overrides))
        plan = _plan_here(options) if "torch" in sys.modules else _plan_in_child(argv)
        from orchestrator.sweep import launch

        for note in plan.notes:
            say(note)
        command = ["orchestrator", "launch", *argv]
        result = launch(plan, command=command, tracking=tracking(), say=say, import_ray=wait_for_ray, on_step=check)
    for line in _closing_lines(plan, result, options):
        say(line)
    return errors.EXIT_OK if result.has_result else errors.EXIT_NO_RESULT


def _plan_here(options: argparse.Namespace) -> Any:
    from orchestrator.config import plan

    tell = partial(say, out=sys.stderr)
    return plan(options.overrides, config_dir=options.config_dir, config_name=options.config_name, say=tell)


def _plan_in_child(argv: Sequence[str]) -> Any:
    """Plans in a process of its own: the driver stays without torch and Hydra, and imports Ray meanwhile.

    Raises:
        SystemExit: the child refused; it has said why.
        NotReadyError: the child was killed.
    """
    from orchestrator.plan import SweepPlan

    with tempfile.NamedTemporaryFile(prefix="orchestrator-plan-", suffix=".json") as file:
        child = subprocess.run([sys.executable, "-m", "orchestrator", "_plan", file.name, *argv], check=False)
        if child.returncode < 0:
            raise NotReadyError(f"checking the sweep was ended by signal {-child.returncode}; is there enough memory?")
        if child.returncode:
            raise SystemExit(child.returncode)
        return SweepPlan.from_json(Path(file.name).read_text(encoding="utf-8"))


def write_plan(argv: Sequence[str]) -> int:
    """The child's side: the plan goes into the file that is named first."""
    parser = Parser(prog="orchestrator _plan")
    _add_config_arguments(parser)
    options = parser.parse_intermixed_args(argv[1:])
    Path(argv[0]).write_text(_plan_here(options).to_json(), encoding="utf-8")
    return errors.EXIT_OK


def _print_config(options: argparse.Namespace) -> int:
    from orchestrator.config import compose_job

    say(compose_job(options.overrides, config_dir=options.config_dir, config_name=options.config_name))
    return errors.EXIT_OK


def _in_thread(work: Callable[[], T]) -> Callable[[], T]:
    """Begins the work in a thread; what is returned waits for its result, or raises what it raised."""
    found: list[T] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def wait() -> T:
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    return wait


def _import_ray() -> None:
    from orchestrator.scheduling.cluster import set_environment

    set_environment()
    import orchestrator.scheduling.tuner  # noqa: F401


def _early_look_at_server(overrides: Sequence[str]) -> Any:
    """The checked tracking settings where a server is named on the command line, so that one that is away is told soon.

    None where it is not, or in a way that only Hydra understands; the plan says then.
    """
    given = dict(override.split("=", 1) for override in overrides if "=" in override)
    spec = {key.removeprefix("tracking."): value for key, value in given.items() if key.startswith("tracking.")}
    if given.get("tracking") != "server" or set(spec) - {"uri", "experiment"} or "uri" not in spec:
        return None
    from orchestrator.tracking.preflight import check_tracking

    return check_tracking({**spec, "kind": "server"}, Path(), name=given.get("name"))


def _closing_lines(plan: Any, result: Any, options: argparse.Namespace) -> list[str]:
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
    runs_dir = _runs_dir_option(plan)
    if result.ship is not None and result.waiting_events > 0:
        why = result.ship.error or "still busy"
        lines.append(f"MLflow has not taken {result.waiting_events} events ({why}); they are kept, ship them later:")
        lines.append(f"  orchestrator sync {result.uid}{runs_dir}")
    lines += ["next:", f"  orchestrator dashboard{runs_dir}    curves and comparisons in MLflow"]
    if result.best:
        lines.append(f"  {_train_command(plan, options, result.best[0]['params'])}    the best trial alone")
    lines.append("  orchestrator launch search=all trials=64    a larger search; orchestrator list search names more")
    return lines


def _runs_dir_option(plan: Any) -> str:
    folder = Path(plan.root.runs_dir).resolve()
    return "" if folder == Path("runs").resolve() else f" --runs-dir {folder}"


OF_THE_SWEEP = {
    *("search", "sampler", "scheduler", "tracking", "cluster"),
    *("name", "trials", "max_concurrent", "time_budget_s", "runs_dir"),
}


def _train_command(plan: Any, options: argparse.Namespace, params: dict[str, Any]) -> str:
    """The command that trains one configuration of the sweep alone: what the user typed, with the searched keys fixed."""
    left_out = {*plan.space.keys, *OF_THE_SWEEP}
    kept = [
        override
        for override in options.overrides
        if (key := override.split("=", 1)[0].lstrip("+")) not in left_out and key.split(".")[0] not in OF_THE_SWEEP
    ]
    folder = ["--config-dir", str(options.config_dir)] if options.config_dir else []
    root = ["--config-name", options.config_name] if options.config_name != "launch" else []
    fixed = [f"{key}={value}" for key, value in params.items()]
    return shlex.join(["orchestrator", "train", *folder, *root, *kept, *fixed])


def train_command(argv: Sequence[str]) -> int:
    parser = Parser(prog="orchestrator train", description="Train one configuration here, without Ray and MLflow.")
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
