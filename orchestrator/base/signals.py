"""Ctrl-C, SIGTERM and the SIGHUP of a closed terminal end a sweep alike: once in good order, twice at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end; `number` is which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Raises `Interrupted` for the first signal within the block; the second ends the process and all that it started.

    Whatever comes of the exception on its way (Ray raises one of its own, or loses its processes to the same signal), what leaves
    the block is ours. Where it was swallowed, as in a destructor, the function that the block is given raises it again: to be
    called now and then.

    Raises:
        Interrupted: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    first: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        if first:
            end_at_once(128 + number)
        first.append(number)
        raise Interrupted(number)

    def check() -> None:
        if first:
            raise Interrupted(first[0])

    # What is ignored stays so: `nohup` and a shell's background jobs count on it.
    heard = [number for number in HANDLED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield check
    except BaseException as stop:
        if first and not isinstance(stop, Interrupted):
            raise Interrupted(first[0]) from stop
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(code: int) -> None:
    """Kills every process below this one, then this one; nothing is tidied up."""
    for pid in reversed(descendants(os.getpid())):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(code)


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, parents before their children."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid, ()))
    for child in found:
        found += children.get(child, ())
    return found
