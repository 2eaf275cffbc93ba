"""What is told while the images of a data set are decoded, which may take long."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.base.text import about
from orchestrator.training.data import cache_folder
from orchestrator.training.data.source import Progress

DECODING_TOLD_AFTER_S = 2.0
DECODING_TOLD_EVERY_S = 3.0


def decoding_progress(
    say: Callable[[str], None], cache: str | None, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """Tells how far decoding is, once it takes longer than DECODING_TOLD_AFTER_S."""
    start, begun = clock(), False
    due = start + DECODING_TOLD_AFTER_S
    first: tuple[int, float] | None = None

    def progress(done: int, total: int) -> None:
        nonlocal due, begun, first
        first = first or (done, clock())
        if clock() < due or done >= total:
            return
        due = clock() + DECODING_TOLD_EVERY_S
        if not begun:
            say(f"decoding {total:,} images once into {cache_folder(cache)} ...")
        begun = True
        say(f"  {done:,} of {total:,} images{_eta(done - first[0], total - done, clock() - first[1])}")

    return progress


def _eta(done: int, to_do: int, seconds: float) -> str:
    """The time left, from the speed since the first images were told of; nothing before there is one."""
    return f", {about(to_do * seconds / done)}" if done > 0 and seconds > 0 else ""
