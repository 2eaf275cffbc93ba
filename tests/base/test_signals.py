"""Signals, sent to real processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.base.signals import Interrupted, descendants, interruptible

SLEEPER = """
import subprocess, sys, time
from orchestrator.base.signals import interruptible
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with interruptible():
    try:
        print(child.pid, flush=True)
        time.sleep(600)
    finally:
        print("tidying up", flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_leaves_the_block_names_the_signal(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def work() -> None:
        with interruptible():
            try:
                os.kill(os.getpid(), number)
                time.sleep(10)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("a library's own") from None

    with pytest.raises(Interrupted, match=str(int(number))) as stop:
        work()
    assert stop.value.number == number
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as check:
            os.kill(os.getpid(), signal.SIGHUP)
            check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_that_a_signal_caused_is_told_as_the_signal() -> None:
    def work() -> None:
        with interruptible():
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            raise RuntimeError("the cluster is gone")

    with pytest.raises(Interrupted, match="15"):
        work()


def test_a_signal_that_was_swallowed_is_raised_by_the_next_look() -> None:
    def work() -> None:
        with interruptible() as check:
            check()
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            check()
            pytest.fail("the signal was forgotten")

    with pytest.raises(Interrupted, match="15"):
        work()


def test_the_second_signal_ends_the_process_and_its_children() -> None:
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert descendants(process.pid) == [child]
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "tidying up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    process.stdout.close()
    deadline = time.monotonic() + 30
    while is_alive(child):
        assert time.monotonic() < deadline, "the child is still there"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may stay as a zombie where nobody collects it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
