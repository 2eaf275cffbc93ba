"""Ships a sweep's journal to MLflow: `python -m orchestrator.tracking.shipper <sweep_folder> --parent-pid N`.

A process of its own, so that MLflow being slow, down or killed never delays a trial. It follows the journal, writes a batch of
events at a time and only then moves its cursor; whatever goes wrong, the batch is given again, and every write may be repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from orchestrator.base.errors import (
    EXIT_NOT_READY,
    EXIT_OK,
    EXIT_RUNNING_ELSEWHERE,
    NotReadyError,
    RunningElsewhereError,
)
from orchestrator.base.layout import JOURNAL, LOCK, TRACKER_LOG, TRACKING
from orchestrator.base.locks import DRIVING, holder
from orchestrator.base.secrets import redact
from orchestrator.journal.cursor import read_status, ship_lock, write_status
from orchestrator.journal.events import Published, SweepOpened
from orchestrator.journal.file import Entry, Reader
from orchestrator.journal.place import check_sweep, refuse_copy
from orchestrator.stores.holding import check_holder, holder_tag
from orchestrator.stores.opening import local_store, open_store, store_settings
from orchestrator.stores.runs import HOLDER_TAG, RunWrite, Store, UnavailableError
from orchestrator.tracking.runs import SweepView

POLL_S = 0.5
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
EVENTS_A_BATCH = 2_000
METRICS_A_BATCH = 20_000
PRIORITY = 5
LOOK_NOW = signal.SIGUSR1
"""Tells the process not to wait for its next look at the journal."""


class Shipper:
    """Moves events from one sweep's journal to one store.

    Args:
        sweep_folder: holds the journal; the cursor lies in its `tracking/`.
        make_store: makes the store from the `tracking` settings in the journal and the name of the experiment.
        log: takes a line for people.
    """

    def __init__(
        self,
        sweep_folder: Path,
        *,
        make_store: Callable[[Mapping[str, Any], str], Store] = open_store,
        log: Callable[[str], None] = print,
    ) -> None:
        self.folder = sweep_folder
        self.status = read_status(sweep_folder)
        self.opened: SweepOpened | None = None
        self.shipped_here = 0
        self._make_store = make_store
        self._log = log
        self._reader = Reader(require_journal(sweep_folder))
        self._view = self._new_view()
        self._store: Store | None = None
        self._holder: str | None = None
        self._shown: tuple[str, str] | None = None
        self._folded = 0
        self._batch_size = 0
        self._pending: list[RunWrite] = []

    @property
    def closed(self) -> bool:
        """Whether the newest shipped event closes the sweep."""
        return self._view.closed

    @property
    def settings(self) -> Mapping[str, Any]:
        """The `tracking` settings of the sweep."""
        return store_settings(self.opened, self.folder)

    @property
    def experiment(self) -> str:
        """The name of the MLflow experiment."""
        return str(self.settings.get("experiment") or (self.opened.name if self.opened else ""))

    @property
    def where(self) -> str:
        """The store, for people."""
        return redact(str(self.settings["uri"]))

    def ship(self) -> int:
        """Ships one batch and moves the cursor; returns how many events that was.

        Raises:
            UnavailableError: the store did not take it; calling again repeats the batch.
        """
        if self._store is None:
            self._store = self._connected()
        if self._store is not None and not self._batch_size:
            self._fold(self._reader.events(after=self._folded, limit=EVENTS_A_BATCH))
        if not self._batch_size:
            return 0
        self._write()
        shipped, self._batch_size = self._batch_size, 0
        self.shipped_here += shipped
        self._set(shipped=self._folded, error=None, ended=False)
        return shipped

    def ship_everything(self) -> int:
        """Ships all that is committed; returns how many events that was."""
        total = 0
        while shipped := self.ship():
            total += shipped
        return total

    def reopen(self) -> None:
        """Opens the journal anew.

        A driver that is killed between the last byte of a commit and its entry in the index that readers share leaves a commit
        that no open reader sees, and that whoever opens the journal first does.
        """
        self._reader.close()
        self._reader = Reader(require_journal(self.folder))

    def end(self) -> None:
        """Finishes a sweep that nobody works on: open runs become `interrupted`, duplicates of lost answers are removed."""
        if self._store is None or not self._view.uid:
            return
        self._view.interrupt()
        self._view.tag_journal(self._folded, self._reader.digest(self._folded))
        self._pending += self._view.take()
        self._write()
        self._store.find(self._view.uid)
        self._set(ended=True)

    def start_over(self) -> None:
        """Everything is shipped again from here on, which changes nothing that the store has; refusals are counted anew."""
        self._view, self._folded = self._new_view(), 0
        self._set(shipped=0, error=None, refused=0, ended=False)

    def note(self, error: UnavailableError) -> None:
        """Keeps in the status why shipping makes no progress."""
        text = redact(str(error))
        if text != self.status.error:
            self._log(text)
            self._set(error=text)

    def close(self) -> None:
        self._reader.close()
        if self._store is not None:
            self._store.close()

    def _connected(self) -> Store | None:
        """The open store, once the view knows what the last shipper knew; None while the journal is empty."""
        self.opened = self._reader.opened()
        if self.opened is None:
            return None
        store = self._make_store(self.settings, self.experiment)
        try:
            store.open()
            known = store.find(self.opened.uid)
            if str(self.settings["uri"]) != local_store(self.folder.resolve().parent)["uri"]:
                check_holder(store.tag(self.opened.uid, HOLDER_TAG), self.folder.parent, self.opened.uid)
                self._holder = holder_tag(self.folder.parent)
        except BaseException:
            store.close()
            raise
        for event in self._events_up_to(self.status.shipped):
            self._view.fold(event)
            self._folded = event.seq
        self._view.take()
        missing = self._view.created() - known
        if missing:
            self._log(f"{len(missing)} runs are not in the store any more; shipping the sweep again from its beginning")
            self.start_over()
        return store

    def _new_view(self) -> SweepView:
        return SweepView(self.folder, is_replaced=partial(_is_replaced, self.folder))

    def _events_up_to(self, last: int) -> Iterator[Entry]:
        """The events up to a number, without holding them all."""
        after = 0
        while after < last:
            events = list(self._reader.events(after=after, limit=min(EVENTS_A_BATCH, last - after)))
            if not events:
                return
            yield from events
            after = events[-1].seq

    def _fold(self, events: Iterator[Entry]) -> None:
        for event in events:
            self._view.fold(event)
            self._batch_size += 1
            self._folded = event.seq
            if self._view.weight >= METRICS_A_BATCH:
                break
        digest = self._reader.digest(self._folded)
        if self._view.closed:
            self._view.tag_journal(self._folded, digest)
        self._pending += self._view.take()

    def _write(self) -> None:
        assert self._store is not None
        for write in self._pending:
            if write.kind == "sweep" and self._holder:
                write.tags[HOLDER_TAG] = self._holder
        refused = self._store.write(self._pending)
        self._pending = []
        self._show_view()
        for line in refused:
            self._log(f"refused by MLflow: {redact(line)}")
        if refused:
            self._set(refused=self.status.refused + len(refused))

    def _show_view(self) -> None:
        """Writes the view of the sweep where it is another than the one written last; once a sweep, as a rule."""
        assert self._store is not None
        view = self._view.view
        if view is not None and view.trials and view.tag != self._shown:
            self._store.tag_experiment(*view.tag)
            self._shown = view.tag

    def _set(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)
        write_status(self.folder, self.status)


def require_journal(sweep_folder: Path) -> Path:
    """The sweep's journal file.

    Raises:
        NotReadyError: there is none.
    """
    path = sweep_folder / JOURNAL
    if not path.is_file():
        raise NotReadyError(f"{sweep_folder} holds no sweep (no {JOURNAL})")
    return path


def _is_replaced(folder: Path, published: Entry) -> bool:
    """Whether something was published later under the same key of the same run; asked where a file is gone, which is rare."""
    old = published.event
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:  # one of its own: stores ask in threads of theirs
        later = (entry.event for entry in reader.events(after=published.seq))
        return any(isinstance(new, Published) and isinstance(old, Published) and new.replaces(old) for new in later)


def follow(
    shipper: Shipper,
    *,
    driver_lives: Callable[[], bool],
    stop: threading.Event,
    wake: threading.Event | None = None,
    more_follows: Callable[[], bool] = lambda: False,
) -> bool:
    """Ships until the sweep is closed, or until its driver is gone and nothing is left; returns whether all was shipped.

    A store that does not answer is tried again for as long as the driver lives, with pauses of 0.5 to 5 s.

    Args:
        more_follows: whether something may be published of the closed sweep: its driver then says when to stop.
        stop: ship what is committed, and end.
        wake: look at once whether there is something to ship; to be set with `stop`.
    """
    retry_s = FIRST_RETRY_S
    wake = wake or stop
    while True:
        # Asked before shipping: what the driver committed before it went is then in the batch.
        alone = stop.is_set() or not driver_lives()
        try:
            if alone:
                shipper.reopen()
            shipper.ship_everything()
            # A close shipped by an earlier shipper is not the end: this one was started to resume the sweep.
            if alone and not stop.is_set() and driver_lives():
                continue  # the sweep was resumed meanwhile
            if alone or (shipper.closed and shipper.shipped_here and not more_follows()):
                shipper.end()
                return True
        except UnavailableError as error:
            shipper.note(error)
            if alone:
                return False
            stop.wait(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)
            continue
        retry_s = FIRST_RETRY_S
        wake.wait(POLL_S)
        if not stop.is_set():
            wake.clear()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Ship a sweep's journal to MLflow for as long as its driver lives.")
    parser.add_argument("sweep_folder", type=Path)
    parser.add_argument("--parent-pid", type=int, required=True)
    options = parser.parse_args(arguments)
    stop, wake = threading.Event(), threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGTERM:
            stop.set()
        wake.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(LOOK_NOW, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(PRIORITY)  # trials come first
    folder: Path = options.sweep_folder.absolute()
    try:
        situation = refuse_copy(folder.parent)
        check_sweep(folder, situation.identity.id if situation.identity else None)
        with (
            ship_lock(folder),
            contextlib.closing(Shipper(folder, log=_log)) as shipper,
        ):
            try:
                lives = _driver_lives(folder, options.parent_pid)
                done = follow(
                    shipper, driver_lives=lives, stop=stop, wake=wake, more_follows=partial(_is_driven, folder)
                )
            except NotReadyError as error:
                shipper.note(UnavailableError(str(error)))
                raise
            except Exception as error:
                # In the status too: the driver does not read this process' log.
                shipper.note(
                    UnavailableError(f"the shipper failed: {type(error).__name__}: {error} ({TRACKING}/{TRACKER_LOG})")
                )
                raise
    except RunningElsewhereError as error:
        _log(str(error))
        return EXIT_RUNNING_ELSEWHERE
    except NotReadyError as error:
        _log(str(error))
        return EXIT_NOT_READY
    return EXIT_OK if done else EXIT_NOT_READY


def _driver_lives(folder: Path, parent_pid: int) -> Callable[[], bool]:
    """Whether a driver works on the sweep: the one that started this process, or one that resumed the sweep since."""

    def lives() -> bool:
        return os.getppid() == parent_pid or _is_driven(folder)

    return lives


def _is_driven(folder: Path) -> bool:
    found = holder(folder / LOCK)
    return found is not None and found.doing.startswith(DRIVING)


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), redact(text), flush=True)


if __name__ == "__main__":
    sys.exit(main())
