"""The figures of trials with `diagnostics=true`: one page each, an artifact of the trial's run, drawn once the sweep is closed.

A trial has them where its weights are kept. They do not change, so that a page that is recorded stays when the sweep goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import BEST, PUBLISHED, diagnosis_page, trial_folder
from orchestrator.base.processes import python
from orchestrator.base.records import State
from orchestrator.base.rights import in_force
from orchestrator.journal.file import Journal
from orchestrator.journal.finding import runs_dir_option
from orchestrator.journal.publishing import file_event
from orchestrator.journal.record import SweepRecord

DIAGNOSIS = "diagnosis.html"
"""The page's name among the artifacts of a trial's run."""

PATIENCE_S = 300.0
"""How long the end of a sweep waits for the next page."""

END_S = 5.0
"""How long a killed process may take to end."""


def publish_diagnoses(folder: Path, record: SweepRecord, journal: Journal, say: Callable[[str], None]) -> None:
    """Has the pages drawn that are not there yet, and records each. One that cannot be drawn is told, and ends no sweep."""
    trials = _without_page(folder, record)
    if not trials:
        return
    say(f"drawing the figures of {len(trials)} trial{'s' if len(trials) > 1 else ''} (diagnostics=true) ...")
    drawn: set[int] = set()
    for index, why in _drawn(folder, trials):
        drawn.add(index)
        try:
            if why is not None:
                raise NotReadyError(why)
            page = folder / PUBLISHED / diagnosis_page(index)
            journal.append(file_event(folder, f"{record.uid}/{index}", DIAGNOSIS, page))
        except NotReadyError as error:
            say(_missing(folder, index, str(error)))
    if missing := [index for index in trials if index not in drawn]:
        say(_missing(folder, missing[0], "its process ended before it was there"))


def _without_page(folder: Path, record: SweepRecord) -> list[int]:
    """The trials whose page is to be drawn; none where the sweep is not tracked, since nobody would be shown it."""
    if record.opened.tracking.get("kind") == "none":
        return []
    return [
        index
        for index, trial in sorted(record.trials.items())
        if trial.state is State.COMPLETED
        and trial.config.get("diagnostics")
        and (f"{record.uid}/{index}", DIAGNOSIS) not in record.published
        and (trial_folder(folder, index) / BEST).is_file()
    ]


def _drawn(folder: Path, trials: Sequence[int]) -> Iterator[tuple[int, str | None]]:
    """Each trial whose page was tried, as soon as it was, and why there is none, where there is none."""
    arguments = [str(folder), "--parent-pid", str(os.getpid()), "--rights", json.dumps(astuple(in_force()))]
    with subprocess.Popen(
        python("-m", "orchestrator.sweep.diagnosis_process", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
    ) as process:
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # told by the pages that do not come
                process.stdin.write("".join(f"{index}\n" for index in [*trials, ""]).encode())
            for line in _lines(process):
                answer = json.loads(line)
                yield answer["trial"], answer["error"]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a disk
                process.wait(END_S)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What the process says, line by line; ends with it, or where it has said nothing for too long."""
    assert process.stdout is not None
    said, poll = b"", select.poll()
    poll.register(process.stdout, select.POLLIN)
    deadline = time.monotonic() + PATIENCE_S
    while poll.poll(1000 * max(0.0, deadline - time.monotonic())):
        if not (more := os.read(process.stdout.fileno(), 1 << 16)):
            return
        *lines, said = (said + more).split(b"\n")
        yield from lines
        deadline = time.monotonic() + PATIENCE_S


def _missing(folder: Path, index: int, why: str) -> str:
    command = f"orchestrator diagnose from={folder.name}/{index}{runs_dir_option(folder)}"
    return (
        f"the figures of trial {index} could not be drawn ({' '.join(why.split())[:300]}); draw them with:  {command}"
    )
