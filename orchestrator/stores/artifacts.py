"""Puts a run's files into a local artifact folder, never half written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import TEMPORARY
from orchestrator.base.removal import discard
from orchestrator.stores.runs import Artifact, RefusedError, UnavailableError


def put(artifact: Artifact, folder: Path) -> None:
    """Stores an artifact in `folder`, under a temporary name first; one that is gone and replaced is passed over.

    A file is hard-linked where that is possible (predictions never change once written), otherwise copied.

    Raises:
        RefusedError: the file to be copied is gone.
        UnavailableError: the folder cannot be written.
    """
    target = folder / artifact.name
    try:
        try:
            _put(artifact, target)
        except FileNotFoundError:  # rare: asking first would cost more than the file
            _make(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            _put(artifact, target)
    except OSError as error:
        if artifact.is_gone and artifact.is_replaced():
            return
        if artifact.is_gone:
            raise RefusedError(f"{artifact.path} is gone") from error
        raise UnavailableError(f"cannot write {target} ({error.strerror or error})") from error


def _make(folder: Path) -> None:
    """Makes the folder of a run's artifacts, below the folder of the store: that is not made again where it was moved away."""
    for parent in (*reversed(folder.parents[:3]), folder):
        parent.mkdir(exist_ok=True)


def _put(artifact: Artifact, target: Path) -> None:
    temporary = f"{target}{TEMPORARY}"  # one process ships a sweep: it overwrites what a killed one left half written
    if artifact.path is None:
        with open(temporary, "w") as file:
            file.write(artifact.text or "")
    else:
        _link_or_copy(str(artifact.path), temporary)
    failpoint("artifact.before")
    os.replace(temporary, target)
    failpoint("artifact.after")
    if artifact.path is not None:
        # rename() does nothing where both names are links to one file, as in a replay.
        discard(temporary)


def _link_or_copy(source: str, target: str) -> None:
    try:
        discard(target)  # left by a killed process; it may be a link to the source itself
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
