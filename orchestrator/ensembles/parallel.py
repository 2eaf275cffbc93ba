"""Work in several threads, of which numpy's loops make use; what comes out does not depend on how many there are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

MOST_THREADS = 4
"""More would wait for memory, not for processors."""

_here = threading.local()


def each(function: Callable[[Given], Made], items: Iterable[Given], *, threads: int | None = None) -> list[Made]:
    """The results in the order of the items; within another call, one after the other.

    Args:
        threads: at most so many; None takes as many as there are processors.
    """
    items, threads = [*items], min(MOST_THREADS, _processors()) if threads is None else threads
    if threads == 1 or len(items) < 2 or getattr(_here, "busy", False):
        return [function(item) for item in items]

    def work(item: Given) -> Made:
        _here.busy = True
        return function(item)

    with ThreadPoolExecutor(threads) as pool:
        return [*pool.map(work, items)]


@contextmanager
def one_thread_of_blas() -> Iterator[None]:
    """Matrix products take one thread: with several the last bits depend on how many there are. A decorator, too."""
    import scipy.linalg  # noqa: F401 (brings a library of its own, which is told only when it is there)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
