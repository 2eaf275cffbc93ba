"""What MLflow shows beside a sweep's trials is recorded first: `publish`, for whoever shows something after a sweep has ended.

A driver appends the same events to the journal that it has open (`text_event`).
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL, LOCK
from orchestrator.base.locks import hold
from orchestrator.journal.events import Published
from orchestrator.journal.file import Journal


def text_event(run: str, key: str, text: str) -> Published:
    """The event of a text that the tag `key` of a run shows."""
    return Published(run, key, hashlib.sha256(text.encode()).hexdigest(), text=text)


def file_event(folder: Path, run: str, key: str, path: Path) -> Published:
    """The event of a file below the sweep's folder that is the artifact `key` of a run.

    Raises:
        NotReadyError: it cannot be read, or lies elsewhere.
    """
    inside = path if path.is_absolute() else folder / path
    if not inside.resolve().is_relative_to(folder.resolve()):
        raise NotReadyError(f"{path} does not lie in {folder}; put what is to be published there first")
    try:
        with inside.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotReadyError(f"{path} cannot be published: it cannot be read ({error.strerror})") from error
    return Published(run, key, digest, path=inside.resolve().relative_to(folder.resolve()).as_posix())


def publish(folder: Path, run: str, key: str, what: str | Path) -> Published:
    """Records in the journal of the sweep in `folder` what a run is about to show, and returns the event once it is durable.

    `orchestrator sync` ships what is published of the sweep's own runs; another run is made by whoever publishes it.

    Args:
        run: uid of the run, or the name of a run of its own (a comparison, an ensemble).
        key: the tag that shows a text, or the name of the artifact that is a copy of a file.
        what: the text, or the path of a file below `folder`.

    Raises:
        RunningElsewhereError: a driver works on the sweep, and it alone writes then.
        NotReadyError: there is no journal, it cannot be written, or the file is not there.
    """
    with hold(folder / LOCK, f"publishes {key} of {run}"), contextlib.closing(Journal(folder / JOURNAL)) as journal:
        event = text_event(run, key, what) if isinstance(what, str) else file_event(folder, run, key, what)
        journal.append(event, sync=True)
    return event
