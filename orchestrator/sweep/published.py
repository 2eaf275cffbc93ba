"""The files that MLflow shows of a sweep as a whole: versions below `published/`, of which the last that is recorded counts.

A version is written whole, then its event is appended, and once that is durable, earlier versions go. Cut off anywhere, what is
left is a file that no event names, which the next publication removes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import PUBLISHED, VERSION
from orchestrator.base.removal import Folder, RefusedRemovalError, opened_below
from orchestrator.journal.file import Journal
from orchestrator.journal.marking import is_sweep
from orchestrator.journal.publishing import file_event
from orchestrator.journal.record import SweepRecord

REPORT = "report.html"
"""The report's name among the artifacts of the sweep's run."""


def next_number(folder: Path, record: SweepRecord) -> int:
    """A number that no version in the folder of a sweep has, and none that an event names last."""
    names = [Path(path).parts[1] for path in _named(record)]
    with contextlib.suppress(OSError):
        names += os.listdir(folder / PUBLISHED)
    found = [VERSION.fullmatch(name) for name in names]
    return 1 + max((int(one[1] or one[2]) for one in found if one and one.lastindex), default=0)


def remove_superseded(folder: Path, record: SweepRecord) -> None:
    """Removes the versions that no event names last, and what a kill left, as far as that is possible now.

    The record must hold no event that a crash can take back.
    """
    stay = {Path(path).parts[1] for path in _named(record)}
    with (
        contextlib.suppress(OSError, RefusedRemovalError),
        opened_below(folder) as sweep,
        sweep.inside(PUBLISHED) as all_,
    ):
        for name in set(all_.names()) - stay:
            if VERSION.fullmatch(name):
                with contextlib.suppress(OSError, RefusedRemovalError):
                    _remove(all_, name, sweep)


def publish_model(folder: Path, record: SweepRecord, journal: Journal) -> str | None:
    """Publishes the best trial as the sweep's model, unless that is what is published; why it could not, where it could not.

    The weights get a second name in `published/`: which trials keep theirs may change when the sweep goes on.
    """
    from orchestrator.serving.mlmodel import write_model

    to = folder / PUBLISHED / f"model-{next_number(folder, record)}"
    try:
        with opened_below(folder) as sweep:
            with sweep.inside(PUBLISHED, create=True):
                files = [(key, _inside(to, key, path)) for key, path in write_model(folder, record, to)]
            sweep.remove_empty(PUBLISHED)
        events = [file_event(folder, record.uid, key, path) for key, path in files]
    except (NotReadyError, OSError) as error:
        return str(error)
    except Exception as error:  # a sweep whose trials have ended does not fail for its model
        return f"{type(error).__name__}: {error}"
    before = [record.published.get((event.run, event.key)) for event in events]
    if [event.sha256 for event in events] != [one and one.sha256 for one in before]:
        failpoint("model.before")
        for event in events:
            journal.append(event)
        failpoint("model.after")
    return None


def _inside(to: Path, key: str, path: Path) -> Path:
    """The file that is to be published, in the folder of its version: one that lies elsewhere gets a name there."""
    if path.is_relative_to(to):
        return path
    name = to / Path(key).name
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)
    return name


def _named(record: SweepRecord) -> list[str]:
    """The paths in `published/` that the events name last."""
    paths = [event.path for event in record.published.values() if event.path is not None]
    return [path for path in paths if len(Path(path).parts) > 1 and Path(path).parts[0] == PUBLISHED]


def _remove(published: Folder, name: str, sweep: Folder) -> None:
    if published.is_file(name):
        published.remove_file(name)
    else:
        published.remove_tree(name, lambda _: is_sweep(sweep))
