"""launch, resume and train."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, NotReadyError, Problem, RunningElsewhereError
from orchestrator.base.processes import python
from orchestrator.base.rights import Rights
from orchestrator.base.secrets import take_out
from orchestrator.base.signals import interruptible
from orchestrator.base.text import say, table
from orchestrator.cli.parser import Parser, add_runs_dir
from orchestrator.journal.finding import runs_dir_option

if TYPE_CHECKING:
    from orchestrator.journal.record import SweepRecord
    from orchestrator.sweep.session import Result

T = TypeVar("T")

VIOLATIONS_SHOWN = 20


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", help="in Hydra's grammar: key=value, group=choice, or key=a,b to search"
    )
    parser.add_argument("--cfg", choices=["job"], help="print the composed configuration and exit")
    parser.add_argument("--config-dir", type=Path, help="a folder with choices of your own, or another root file")
    parser.add_argument("--config-name", default="launch", help="the root file, without .yaml")


def _keys_and_groups() -> str:
    """What can be set, for the end of a help text."""
    from orchestrator.base.groups import GROUPS, PARTS, SEARCHES
    from orchestrator.base.settings import described, launch_defaults
    from orchestrator.config.catalogue import choices

    defaults = dict(launch_defaults())
    chosen = {
        group: name for entry in defaults.pop("defaults") if isinstance(entry, dict) for group, name in entry.items()
    }
    spelled = {key: "null" if value is None else json.dumps(value).strip('"') for key, value in defaults.items()}
    keys = table(["key", "default", ""], [[key, spelled[key], text] for key, text in described().items()])
    names = {group: [name for name, _ in choices(group)] for group in (*GROUPS, *PARTS, *SEARCHES)}
    rows = [[group, str(chosen.get(group) or "null"), _some(found)] for group, found in names.items()]
    groups = table(["group", "default", ""], rows)
    last = "The keys of a choice, such as optimizer.lr:  orchestrator list optimizer sgd"
    return "\n".join(["KEY=VALUE:", *keys, "", "GROUP=CHOICE:", *groups, "", last])


def _some(names: Sequence[str], shown: int = 8) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f", ... and {rest} more: orchestrator list GROUP" if rest > 0 else "")


def launch_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator launch",
        description="Run a sweep; search=lottery_ticket from=NAME/7 one of tickets of a trained trial.",
    )
    parser.describe_at_the_end(argv, _keys_and_groups)
    _add_config_arguments(parser)
    parser.add_argument("--plan", action="store_true", help="print what would run and exit")
    options = parser.parse_overrides(argv)
    if options.cfg:
        return _print_config(options)
    from orchestrator.config.plan import describe_plan

    if options.plan:
        for line in describe_plan(_plan_here(options), options.overrides):
            say(line)
        return errors.EXIT_OK
    _refuse_copy_at_once(options)
    say("checking the sweep ...")
    request = {
        "overrides": list(options.overrides),
        "config_dir": str(options.config_dir.resolve()) if options.config_dir else None,
        "config_name": options.config_name,
        "cwd": os.getcwd(),
    }
    with interruptible() as check:
        wait_for_ray = _begin_import_of_ray()
        tracking = _in_thread(lambda: _early_look_at_server(options.overrides))
        plan = _plan_here(options) if "torch" in sys.modules else _plan_in_child(argv)
        from orchestrator.sweep.launching import launch
        from orchestrator.sweep.session import DriverContext

        for note in plan.notes:
            say(note)
        context = DriverContext(
            command=["orchestrator", "launch", *argv],
            request=request,
            tracking=tracking(),
            say=say,
            import_ray=wait_for_ray,
            on_step=check,
        )
        result = launch(plan, context)
    return _closed(result, str(plan.base["metric"]), plan.rights)


def _refuse_copy_at_once(options: argparse.Namespace) -> None:
    """Before half a minute of checks, where the folder can be told from the command line alone."""
    from orchestrator.journal.place import refuse_copy

    typed = [text.partition("=")[2] for text in options.overrides if text.startswith("runs_dir=")]
    in_files = options.config_dir or any(text.startswith("experiment=") for text in options.overrides)
    if typed or not in_files:
        refuse_copy(Path(typed[-1] if typed else "runs").expanduser())


def resume_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator resume",
        description="Continue a sweep that was interrupted, or add trials to one that has ended.",
    )
    parser.add_argument("name", metavar="NAME", help="the sweep's name, or its name with the id: digits-0a1b2c3d")
    parser.add_argument(
        "overrides", nargs="*", default=[], help="a new search space, sampler, scheduler, concurrency or budget"
    )
    parser.add_argument("--more", type=int, metavar="N", help="add N trials")
    parser.add_argument(
        "--seeds", metavar="TRIAL=N,...", help="train the configurations of these trials with N seeds in all"
    )
    add_runs_dir(parser)
    options = parser.parse_overrides(argv, options=("runs_dir", "more", "seeds"))
    from orchestrator.base.layout import LOCK
    from orchestrator.base.locks import holder
    from orchestrator.config.plan import SweepPlan
    from orchestrator.config.resuming import merged
    from orchestrator.config.rights import check_recorded, spelled, split_rights, typed_rights
    from orchestrator.journal.finding import find_sweep
    from orchestrator.journal.place import refuse_copy
    from orchestrator.journal.record import read_sweep

    if options.more is not None and options.more < 1:
        raise ConfigError(Problem("--more", "must be at least 1", options.more))
    seeds = {} if options.seeds is None else _seeds(options.seeds)
    folder = find_sweep(options.runs_dir, options.name)
    refuse_copy(folder.parent)  # at once, before half a minute of checks
    if (other := holder(folder / LOCK)) is not None:
        raise RunningElsewhereError(f"{other} works on sweep {folder.name} already")
    record = read_sweep(folder)
    record.check_opened()
    if record.closed is not None and options.more is None and not options.overrides and not seeds:
        return _nothing_to_do(folder, record)
    rights, overrides = typed_rights(options.overrides)
    SweepPlan.from_json(record.plan)  # a damaged one is told as that
    check_recorded(f"sweep {folder.name}", json.loads(record.plan), rights)
    before = (record.resumes[-1].request if record.resumes else None) or record.opened.request
    if not before and overrides:
        why = f"sweep {folder.name} was launched from Python, so its plan can only be changed there; resume it without"
        raise ConfigError(Problem(" ".join(overrides), why))
    if before:
        _, recorded = split_rights(take_out(before["overrides"]))
        request = {**before, "overrides": merged(recorded, overrides)}
    else:
        request = {}
    say(f"checking sweep {folder.name} ...")
    with interruptible() as check:
        wait_for_ray = _begin_import_of_ray()
        trials = _typed_trials(overrides)
        plan = _plan_again(request, record, folder.resolve().parent, options.more, trials, rights)
        from orchestrator.sweep.resuming import resume
        from orchestrator.sweep.session import DriverContext

        as_typed = {**request, "overrides": [*request["overrides"], *spelled(rights)]} if request else {}
        context = DriverContext(
            command=["orchestrator", "resume", *argv],
            request=as_typed,
            say=say,
            import_ray=wait_for_ray,
            on_step=check,
        )
        new_budget = any(override.split("=")[0] == "time_budget_s" for override in overrides)
        result = resume(folder, plan, context, more=options.more, trials=trials, new_budget=new_budget, seeds=seeds)
    if result is None:
        return _nothing_to_do(folder, record)
    return _closed(result, str(plan.base["metric"]), plan.rights)


def _seeds(text: str) -> dict[int, int]:
    """`12=5,3=5`: trial -> seeds of its configuration."""
    found = {}
    for part in text.split(","):
        if not (given := re.fullmatch(r"\s*(\d{1,9})=(\d{1,9})\s*", part)):
            why = "must name trials and how many seeds each is to have in all, such as 12=5 or 12=5,3=5"
            raise ConfigError(Problem("--seeds", why, text))
        found[int(given[1])] = int(given[2])
    return found


def _nothing_to_do(folder: Path, record: SweepRecord) -> int:
    from orchestrator.config.rights import retyped_for
    from orchestrator.journal.cursor import read_status
    from orchestrator.journal.record import read_sweep
    from orchestrator.sweep.reporting import make_up

    reason = record.closed.reason if record.closed else None
    say(f"nothing to do: sweep {folder.name} is closed ({reason})")
    command = f"orchestrator resume {folder.name}{runs_dir_option(folder)}{retyped_for(json.loads(record.plan))}"
    if reason == "budget":
        say(f"  {command} time_budget_s=600    goes on with what the budget cut off")
    else:
        say(f"  {command} --more 20    adds trials")
    if make_up(folder, say):
        record = read_sweep(folder)
    waiting = record.last_seq - read_status(folder).shipped
    if waiting and record.opened.tracking.get("kind") != "none":
        say(f"MLflow has not taken {waiting} events:  orchestrator sync {folder.name}{runs_dir_option(folder)}")
    return errors.EXIT_OK


def _typed_trials(overrides: Sequence[str]) -> int | None:
    """The number in `trials=`; the plan reports what is not a number."""
    typed = [value for key, _, value in (override.partition("=") for override in overrides) if key == "trials"]
    return int(typed[-1]) if typed and typed[-1].isdecimal() else None


def _plan_again(
    request: Mapping[str, Any],
    record: SweepRecord,
    runs_dir: Path,
    more: int | None,
    trials: int | None,
    rights: Rights,
) -> Any:
    """The plan that the overrides give today, made where they were given first.

    Args:
        rights: what the user allows for this resume; overrides that came from the journal can add none.

    Raises:
        ConfigError, NotReadyError: as for a launch.
    """
    from orchestrator.config.plan import SweepPlan

    last = SweepPlan.from_json(record.plan)
    if not request:  # launched from Python
        return replace(last, rights=rights)
    overrides = [override for override in request["overrides"] if override.split("=")[0] not in ("name", "runs_dir")]
    overrides.append(f"runs_dir={json.dumps(str(runs_dir))}")
    if trials is None:
        overrides = [override for override in overrides if override.split("=")[0] != "trials"]
        overrides.append(f"trials={int(last.settings['trials']) + (more or 0)}")
    cwd = Path(request["cwd"]) if Path(request["cwd"]).is_dir() else Path.cwd()
    if "torch" in sys.modules:
        from orchestrator.config.planning import plan
        from orchestrator.housekeeping.loading import kept_weights

        where = {"config_dir": request["config_dir"], "config_name": request["config_name"]}
        with contextlib.chdir(cwd):
            return plan(overrides, **where, rights=rights, find_trial=kept_weights)
    folder = ["--config-dir", request["config_dir"]] if request["config_dir"] else []
    allowed = ["--rights", json.dumps(astuple(rights))]
    return _plan_in_child([*allowed, *folder, "--config-name", request["config_name"], "--", *overrides], cwd)


def _closed(result: Result, metric: str, rights: Rights) -> int:
    from orchestrator.cli.closing import closing_lines

    for line in closing_lines(result, metric, rights):
        say(line)
    if not result.report.ok:
        for violation in result.report.violations[:VIOLATIONS_SHOWN]:
            say(str(violation), sys.stderr)
        return errors.EXIT_VIOLATION
    return errors.EXIT_OK if result.has_result and not result.too_many_failed else errors.EXIT_NO_RESULT


def _plan_here(options: argparse.Namespace) -> Any:
    from orchestrator.config.planning import plan
    from orchestrator.housekeeping.loading import kept_weights

    tell = partial(say, out=sys.stderr)
    only_shown = bool(getattr(options, "plan", False))
    given = getattr(options, "rights", None)
    return plan(
        options.overrides,
        config_dir=options.config_dir,
        config_name=options.config_name,
        say=tell,
        fetch=not only_shown,
        costs=only_shown,
        rights=None if given is None else Rights(*map(tuple, given)),
        find_trial=kept_weights,
    )


def _plan_in_child(argv: Sequence[str], cwd: Path | None = None) -> Any:
    """Plans in a process of its own: the driver stays without torch and Hydra, and imports Ray meanwhile.

    Raises:
        SystemExit: the child refused; it has said why.
        NotReadyError: the child was killed.
    """
    from orchestrator.config.plan import SweepPlan

    with tempfile.NamedTemporaryFile(prefix="orchestrator-plan-", suffix=".json") as file:
        command = python("-m", "orchestrator", "_plan", file.name, *argv)
        child = subprocess.run(command, check=False, cwd=cwd)
        if child.returncode < 0:
            raise NotReadyError(f"checking the sweep was killed by signal {-child.returncode}; is there enough memory?")
        if child.returncode:
            raise SystemExit(child.returncode)
        answer = json.loads(Path(file.name).read_text(encoding="utf-8"))
        rights = Rights(*map(tuple, answer["rights"]))  # the child read them from the same command line and settings
        return replace(SweepPlan.from_json(answer["plan"]), rights=rights)


def write_plan(argv: Sequence[str]) -> int:
    """The child's side: the plan goes into the file that is named first."""
    parser = Parser(prog="orchestrator _plan")
    _add_config_arguments(parser)
    parser.add_argument("--rights", type=json.loads, help="as JSON; those of the overrides where absent")
    options = parser.parse_intermixed_args(argv[1:])
    made = _plan_here(options)
    answer = {"plan": made.to_json(), "rights": astuple(made.rights)}
    Path(argv[0]).write_text(json.dumps(answer), encoding="utf-8")
    return errors.EXIT_OK


def _print_config(options: argparse.Namespace) -> int:
    from orchestrator.config.planning import compose_job

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


def _begin_import_of_ray() -> Callable[[], None]:
    """Imports Ray while a child plans.

    Not beside a plan that is made here: two threads that import the same libraries at once can each find one half loaded.
    """
    return _import_ray if "torch" in sys.modules else _in_thread(_import_ray)


def _import_ray() -> None:
    import orchestrator.scheduling.ray.tuner  # noqa: F401


def _early_look_at_server(overrides: Sequence[str]) -> Any:
    """The checked tracking settings where the command line names a server, so that an unreachable one is reported at once.

    None where it is not, or in a way that only Hydra understands; the plan says then.
    """
    given = dict(override.split("=", 1) for override in overrides if "=" in override)
    spec = {key.removeprefix("tracking."): value for key, value in given.items() if key.startswith("tracking.")}
    if given.get("tracking") != "server" or set(spec) - {"uri", "experiment"} or "uri" not in spec:
        return None
    from orchestrator.tracking.preflight import check_tracking

    return check_tracking({**spec, "kind": "server"}, Path(), name=given.get("name"))


def train_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator train",
        description="Train one configuration here, or a trial of a sweep again (from=NAME/7), without Ray and MLflow.",
    )
    parser.describe_at_the_end(argv, _keys_and_groups)
    _add_config_arguments(parser)
    add_runs_dir(parser)
    parser.add_argument(
        "--folder", type=Path, help="keep checkpoints, weights and predictions here, and continue from them"
    )
    options = parser.parse_overrides(argv)
    again = [override.removeprefix("from=") for override in options.overrides if override.startswith("from=")]
    if again and (options.cfg or options.config_dir):
        why = f"is about conf/, and from= is not made of it; see  orchestrator show {again[-1]}"
        raise ConfigError(Problem("--cfg" if options.cfg else "--config-dir", why))
    if options.cfg:
        return _print_config(options)
    from orchestrator.sweep.alone import train_again, train_one

    if again:
        others = [override for override in options.overrides if not override.startswith("from=")]
        if elsewhere := [text for text in others if text.startswith("runs_dir=")]:
            why = "says nothing of where the trial lies; name the folder of its sweep with --runs-dir"
            raise ConfigError(Problem("runs_dir", why, elsewhere[-1].partition("=")[2]))
        return train_again(again[-1], others, runs_dir=options.runs_dir, folder=options.folder)
    return train_one(
        options.overrides, config_dir=options.config_dir, config_name=options.config_name, folder=options.folder
    )
