"""What a sweep shows on the terminal: a live view where there is one, plain lines elsewhere. It reads the sweep's events."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, assert_never

from orchestrator.analysis.naming import trial_name
from orchestrator.base.layout import HEARTBEAT, trial_folder
from orchestrator.base.records import CAN_BE_BEST, State, better
from orchestrator.base.text import about, say, word
from orchestrator.journal.events import (
    Published,
    Reported,
    Retrying,
    Started,
    Suggested,
    SweepClosed,
    SweepOpened,
    SweepResumed,
    Terminal,
)
from orchestrator.journal.file import Entry
from orchestrator.journal.parts import Epoch
from orchestrator.journal.record import SweepRecord, TrialCount
from orchestrator.sweep.lines import clock, columns, fitted, wrapped
from orchestrator.sweep.timing import Timing
from orchestrator.training.heartbeat import EVERY_S, read_heartbeat

NO_RESULT = (State.DIVERGED, State.INFEASIBLE, State.FAILED)

LISTENED_TO = 100
"""So many running trials are asked how far they are."""

LINE_EVERY_S = 10.0
"""Plain output: at most one line so often for trials that go on; every trial that ends has its line."""


class Progress:
    """Counts events; `line` gives what there is to say about one, `summary` where the sweep stands.

    Args:
        configurations: that there are to be, at most.
        repeat, judged, workers: see `Timing`.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(
        self,
        configurations: int,
        metric: str,
        mode: str,
        *,
        repeat: int = 1,
        judged: bool = False,
        workers: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metric, self.mode = metric, mode
        self.ended: Counter[State] = Counter()
        self.running: dict[int, str] = {}
        self.best: tuple[float, int] | None = None
        self.timing = Timing(monotonic, workers=workers, repeat=repeat, judged=judged)
        self.count = TrialCount(configurations, repeat)
        self._params: dict[int, Mapping[str, Any]] = {}
        self._epochs: dict[int, tuple[int, int]] = {}
        self._values: dict[int, float] = {}
        self._within: dict[int, tuple[int, int, int]] = {}
        self._monotonic = monotonic
        self._last_line = float("-inf")
        self._begun = False

    @property
    def trials(self) -> int:
        """How many trials there are to be."""
        return self.count.planned

    def recall(self, record: SweepRecord) -> None:
        """What earlier drivers of a resumed sweep did."""
        for trial in record.trials.values():
            self._params[trial.index] = trial.params
            self._epochs[trial.index] = (trial.epoch, int(trial.config.get("epochs") or 1))
            if trial.value is not None:
                self._values[trial.index] = trial.value
            if trial.ended:
                self.ended[trial.state] += 1
        self.count = record.count(self.count.configurations, self.count.repeat)
        if record.scores and record.scores.best:
            self.best = (record.scores.best.mean, min(record.scores.best.trials))

    def line(self, entry: Entry) -> str | None:
        """The plain line for an event, or None."""
        match entry.event:
            case Suggested() as event:
                self._params[entry.index] = event.params
                self._epochs[entry.index] = (0, int(event.config.get("epochs") or 1))
                self.count.suggested(entry.index, event.repeat, judged=event.judged)
            case Started() as event:
                before, planned = self._epochs.get(entry.index, (0, 1))
                late_s = (entry.time_ms - event.began_ms) / 1000 if event.began_ms else 0.0
                self.timing.started(entry.index, planned, before, late_s)
                self.running[entry.index] = ""
                self._begun = True
            case Reported() as event:
                return self._reported(entry.index, event.epochs) if event.epochs else None
            case Retrying() as event:
                return f"trial {entry.index} starts again from its checkpoint: {event.reason}"
            case Terminal() as event:
                return self._terminal(entry.index, event)
            case SweepOpened() | SweepResumed() | SweepClosed() | Published():
                pass  # the driver says so itself
            case _ as unknown:
                assert_never(unknown)
        return None

    def heard(self, index: int, within: tuple[int, int, int]) -> None:
        """A running trial says how far its epoch is: the epoch, the images of it that were trained, and how many it has."""
        if index in self.running and within[0] > self._epochs[index][0]:
            self._within[index] = within
            self.timing.trained(index, within[0] - 1 + within[1] / max(within[2], 1))

    def summary(self) -> str:
        """One line: done, running, failed, best so far, time left."""
        return ", ".join(self.parts())

    def parts(self) -> list[str]:
        """What the summary consists of."""
        done = sum(self.ended.values())
        begun = self._begun or done >= self.trials
        parts = [f"{done}/{self.trials} trials", f"{len(self.running)} running" if begun else "workers are starting"]
        parts += [f"{self.ended[state]} {state}" for state in NO_RESULT if self.ended[state]]
        if self.best:
            parts.append(f"best {self.metric} {self.best[0]:.4f} (trial {self.best[1]})")
        if done < self.trials or self.running:
            parts += [f"{clock(self.timing.elapsed_s)} so far", about(self.seconds_left())]
        return parts

    def rows(self, width: int, most: int = 20) -> list[str]:
        """A line for each running trial, as long as there is room: its name, epochs, images where an epoch is long, its time."""
        shown = sorted(self.running)
        if len(shown) > most:
            shown = shown[: max(most - 1, 0)]
        names = [trial_name(index, self._params.get(index, {})) for index in shown]
        lines = columns(names, [self._cells(index) for index in shown], width, sure=2)
        if len(shown) < len(self.running):
            lines.append(fitted(f"... and {len(self.running) - len(shown)} more", width))
        return lines

    def seconds_left(self) -> float | None:
        """An estimate from what epochs took so far; None before the first one."""
        judged_now = sum(index in self.count.judged for index in self.running)
        begun = len(self.running)
        waiting = self.count.open - begun
        return self.timing.seconds_left(
            to_come=waiting + self.count.repeats_due,
            configurations=self.count.configurations_to_come,
            judged_now=judged_now,
        )

    def _cells(self, index: int) -> list[str]:
        """Epoch and time of a running trial, then what is shown where there is room."""
        epoch, planned = self._epochs.get(index, (0, 1))
        _, images, of = self._within.get(index, (0, 0, 0))
        return [
            f"epoch {min(epoch + 1, planned)}/{planned}",
            clock(self.timing.running_s(index)),
            f"{images:>{len(f'{of:,}')},}/{of:,} images" if of else "",  # as wide from first to last
            self.running[index].partition("  ")[2],
        ]

    def _reported(self, index: int, epochs: Sequence[Epoch]) -> str | None:
        last = epochs[-1]
        for epoch in epochs:
            value = epoch["metrics"].get(self.metric)
            if isinstance(value, float) and better(self.mode, value, self._values.get(index)):
                self._values[index] = value
        self._epochs[index] = (last["epoch"], self._epochs.get(index, (0, last["epoch"]))[1])
        self._within.pop(index, None)
        self.timing.trained(index, last["epoch"])
        value = last["metrics"].get(self.metric)
        shown = f"{value:.4f}" if isinstance(value, float) else "?"
        self.running[index] = f"epoch {last['epoch']}  {self.metric} {shown}"
        now = self._monotonic()
        if now - self._last_line < LINE_EVERY_S:
            return None
        self._last_line = now
        return f"trial {index}  {self.running[index]}  {_words(self._params.get(index, {}))}"

    def _terminal(self, index: int, event: Terminal) -> str:
        state, value = event.state, event.value
        self.running.pop(index, None)
        self._within.pop(index, None)
        self.ended[state] += 1
        self.count.ended(index, state)
        self.timing.ended(index)
        if state in CAN_BE_BEST and isinstance(value, float) and better(self.mode, value, self.best and self.best[0]):
            self.best = (value, index)
        done = sum(self.ended.values())
        shown = f"  {self.metric} {value:.4f}" if isinstance(value, float) and state in CAN_BE_BEST else ""
        reason = f"  ({event.reason})" if event.reason else ""
        return f"[{done}/{self.trials}] trial {index} {state}{shown}{reason}  {_words(self._params.get(index, {}))}"


class View:
    """Shows a sweep's events until it is closed.

    Args:
        folder: of the sweep, where running trials say how far they are.
    """

    def __init__(self, progress: Progress, out: IO[str] | None = None, folder: Path | None = None) -> None:
        self._progress = progress
        self._out = out or sys.stdout
        self._folder = folder
        self._lock = threading.Lock()
        self._looked_s = float("-inf")
        self._live: Any = None

    def __enter__(self) -> View:
        if self._out.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._out)
            self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *args: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def __call__(self, entry: Entry) -> None:
        with self._lock:
            line = self._progress.line(entry)
        if line and self._live is None:
            say(line, self._out)
        elif line and isinstance(entry.event, Retrying | Terminal):
            line = fitted(line, self._live.console.width)
            self._live.console.print(line, highlight=False, markup=False, no_wrap=True, overflow="ellipsis")

    def _render(self) -> Any:
        from rich.text import Text

        size = self._live.console.size if self._live else None
        width, height = (size.width, size.height) if size else (80, 24)
        with self._lock:
            self._listen()
            summary = wrapped(self._progress.parts(), width)
            lines = [*self._progress.rows(width, most=max(height - len(summary) - 2, 1)), *summary]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def _listen(self) -> None:
        """Reads what the running trials say of themselves, once a second."""
        now = time.monotonic()
        if self._folder is None or now - self._looked_s < EVERY_S:
            return
        self._looked_s = now
        for index in sorted(self._progress.running)[:LISTENED_TO]:
            if within := read_heartbeat(trial_folder(self._folder, index) / HEARTBEAT):
                self._progress.heard(index, within)


def _words(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={word(value)}" for key, value in params.items())
