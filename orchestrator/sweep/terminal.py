"""What a sweep shows on the terminal: a live view where there is one, plain lines elsewhere. It reads the sweep's events."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, assert_never

from orchestrator.base.records import CAN_BE_BEST, State, better
from orchestrator.base.secrets import redact
from orchestrator.base.text import duration, say, visible, word
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
from orchestrator.journal.record import SweepRecord

LINE_EVERY_S = 10.0
"""Plain output: at most one line so often for trials that go on; every trial that ends has its line."""


class Progress:
    """Counts events; `line` gives what there is to say about one, `summary` where the sweep stands."""

    def __init__(self, trials: int, metric: str, mode: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.trials, self.metric, self.mode = trials, metric, mode
        self.ended: Counter[State] = Counter()
        self.running: dict[int, str] = {}
        self.best: tuple[float, int] | None = None
        self._params: dict[int, Mapping[str, Any]] = {}
        self._values: dict[int, float] = {}
        self._monotonic = monotonic
        self._start = monotonic()
        self._first_start: float | None = None
        self._last_line = float("-inf")
        self._ended_before = 0

    def recall(self, record: SweepRecord) -> None:
        """What earlier drivers of a resumed sweep did."""
        for trial in record.trials.values():
            self._params[trial.index] = trial.params
            if trial.value is not None:
                self._values[trial.index] = trial.value
            if trial.ended:
                self.ended[trial.state] += 1
        self._ended_before = sum(self.ended.values())
        if record.scores and record.scores.best:
            self.best = (record.scores.best.mean, min(record.scores.best.trials))

    def line(self, entry: Entry) -> str | None:
        """The plain line for an event, or None."""
        match entry.event:
            case Suggested() as event:
                self._params[entry.index] = event.params
            case Started():
                if self._first_start is None:
                    self._first_start = self._monotonic()
                self.running[entry.index] = ""
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

    def summary(self) -> str:
        """One line: done, running, failed, best so far, time left."""
        done = sum(self.ended.values())
        bad = done - sum(self.ended[state] for state in CAN_BE_BEST)
        parts = [f"{done}/{self.trials} trials", f"{len(self.running)} running"]
        if bad:
            parts.append(f"{bad} failed or diverged")
        if self.best:
            parts.append(f"best {self.metric} {self.best[0]:.4f} (trial {self.best[1]})")
        left = self.seconds_left()
        if left is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """An estimate from the trials that ended; None before the first one."""
        done = sum(self.ended.values())
        here = done - self._ended_before
        if not here or self._first_start is None or done >= self.trials:
            return None
        return (self._monotonic() - self._first_start) / here * (self.trials - done)

    def _reported(self, index: int, epochs: Sequence[Epoch]) -> str | None:
        last = epochs[-1]
        for epoch in epochs:
            value = epoch["metrics"].get(self.metric)
            if isinstance(value, float) and better(self.mode, value, self._values.get(index)):
                self._values[index] = value
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
        self.ended[state] += 1
        if state in CAN_BE_BEST and isinstance(value, float) and better(self.mode, value, self.best and self.best[0]):
            self.best = (value, index)
        done = sum(self.ended.values())
        shown = f"  {self.metric} {value:.4f}" if isinstance(value, float) and state in CAN_BE_BEST else ""
        reason = f"  ({event.reason})" if event.reason else ""
        return f"[{done}/{self.trials}] trial {index} {state}{shown}{reason}  {_words(self._params.get(index, {}))}"


class View:
    """Shows a sweep's events until it is closed."""

    def __init__(self, progress: Progress, out: IO[str] | None = None) -> None:
        self._progress = progress
        self._out = out or sys.stdout
        self._lock = threading.Lock()
        self._live: Any = None

    def __enter__(self) -> View:
        if self._out.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._out), get_renderable=self._render, refresh_per_second=4)
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
            self._live.console.print(visible(redact(line)), highlight=False, markup=False)

    def _render(self) -> Any:
        from rich.text import Text

        with self._lock:
            running = [f"  trial {index}  {text}" for index, text in sorted(self._progress.running.items())]
            return Text(visible(redact("\n".join([*running[:20], self._progress.summary()]))))


def _words(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={word(value)}" for key, value in params.items())
