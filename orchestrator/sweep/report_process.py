"""Writes one report of a sweep: `python -m orchestrator.sweep.report_process <sweep_folder> --parent-pid N --nice N`.

A process of its own, so that what draws the figures is neither imported by the driver nor delays a trial. A line on its input
names the file; JSON on its output is the answer: what it took, or why there is none. It ends with the driver.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from orchestrator.base.errors import NotReadyError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import PUBLISHED, TEMPORARY
from orchestrator.base.removal import opened_below

LOOK_S = 1.0
"""So often it looks whether the driver is there; that its end of the pipe is closed is noticed at once."""


def main(arguments: list[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(description="Write a report of a sweep for its driver.")
    parser.add_argument("sweep_folder", type=Path)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--nice", type=int, default=0)
    options = parser.parse_args(arguments)
    _step_back(options.nice)
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library may print
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(options.parent_pid, names), daemon=True).start()
    answer = json.dumps(write(options.sweep_folder, names.get()))
    os.write(out, answer.encode())
    os._exit(0)  # at once: nothing is left to be written


def write(folder: Path, name: str) -> dict[str, object]:
    """Writes the report under its name in `published/`, whole or not at all; the answer."""
    from orchestrator.reports.build import report

    try:
        write_published(folder, name, lambda: report(folder))
    except (NotReadyError, OSError) as error:
        return {"error": str(error)}
    except Exception as error:  # a figure that fails must not end a sweep: it is told, and the command tells more
        return {"error": f"{type(error).__name__}: {error}"}
    return {"cpu_s": time.process_time()}


def write_published(folder: Path, name: str, made: Callable[[], str]) -> None:
    """Writes what is made under a name in `published/`, whole or not at all."""
    aside = f"{name}{TEMPORARY}"
    with opened_below(folder) as sweep, sweep.inside(PUBLISHED, create=True) as published:
        try:
            published.write_aside(name, made())
            failpoint("page.before")
            published.rename(aside, name)
            failpoint("page.after")
        except BaseException:
            published.remove_file(aside)
            raise


def listen(parent_pid: int, names: queue.SimpleQueue[str]) -> None:
    """Hands on the lines of the driver, and ends the process with it."""
    said = b""
    while os.getppid() == parent_pid:
        if not select.select([0], [], [], LOOK_S)[0]:
            continue
        if not (more := os.read(0, 4096)):
            break
        *lines, said = (said + more).split(b"\n")
        for line in lines:
            names.put(line.decode())
    os._exit(1)


def _step_back(nice: int) -> None:
    """Trials come first. Linux may weigh sessions before processes: then that of this one steps back, too."""
    with contextlib.suppress(OSError):
        os.nice(nice)
    if nice and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(nice))


if __name__ == "__main__":
    main()
