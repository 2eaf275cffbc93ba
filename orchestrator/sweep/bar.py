"""How far one training is, on the last lines of a terminal; nothing where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Any, Protocol

from orchestrator.base.text import about
from orchestrator.sweep.lines import clock, wrapped
from orchestrator.sweep.timing import Timing

LONG_EPOCH_S = 2.0
"""Of an epoch that takes longer, the images that were trained are shown."""


class Trains(Protocol):
    """What says how far its epoch is: the epoch, its images that were trained, and how many it has."""

    @property
    def within(self) -> tuple[int, int, int]: ...


class EpochBar:
    """Epochs, images within a long one, time so far and time left, kept up to date until the block ends.

    Args:
        epochs: that there are to be.
        monotonic: seconds on a clock that never jumps.

    Attributes:
        console: what is printed there stays above the bar.
    """

    task_ids = (0,)

    def __init__(
        self, epochs: int, *, out: IO[str] | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console

        self.console = Console(file=out)
        self._epochs, self._done, self._text = epochs, 0, ""
        self._run: Trains | None = None
        self._monotonic, self._timing = monotonic, Timing(monotonic)
        self._began_s = monotonic()
        self._live: Any = None

    def __enter__(self) -> EpochBar:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, get_renderable=self._render, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *args: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def watch(self, run: Trains, before: int = 0) -> None:
        """A training begins, or goes on after epoch `before`."""
        self._done = before
        self._timing.started(0, self._epochs, before)
        self._began_s = self._monotonic()
        self._run = run

    def update(self, task: int, *, completed: int, text: str = "") -> None:
        """An epoch has ended."""
        del task  # as of rich's own bar
        self._done, self._text = completed, text
        self._timing.trained(0, completed)
        self._began_s = self._monotonic()

    def lines(self, width: int) -> list[str]:
        """What is shown now."""
        if self._run is None:
            return wrapped(["loading", f"{clock(self._timing.elapsed_s)} so far"], width)
        epoch, images, of = self._run.within
        now = self._monotonic()
        parts = [f"epoch {min(self._done + 1, self._epochs)}/{self._epochs}"]
        if of and epoch > self._done and now - self._began_s >= LONG_EPOCH_S:
            self._timing.trained(0, epoch - 1 + images / of)
            parts.append(f"{images:,}/{of:,} images")
        left_s = self._timing.seconds_left(to_come=0) if self._done < self._epochs else 0.0
        parts += [f"{clock(self._timing.elapsed_s)} so far", about(left_s), *([self._text] if self._text else [])]
        return wrapped(parts, width)

    def _render(self) -> Any:
        from rich.text import Text

        return Text("\n".join(self.lines(self.console.width)), no_wrap=True, overflow="ellipsis")
