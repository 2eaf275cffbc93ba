"""Puts a run's files where a local artifact folder wants them, never half written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from orchestrator.tracking.store import Artifact, RefusedError, UnavailableError


def put(artifact: Artifact, folder: Path) -> None:
    """Stores one artifact in `folder` under a temporary name that is renamed at the end.

    A file is hard-linked where it can be (predictions are written once and never changed), copied elsewhere.

    Raises:
        RefusedError: the file to be copied is gone.
        UnavailableError: the folder cannot be written.
    """
    target = folder / artifact.name
    temporary = folder / f".{artifact.name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        if artifact.path is None:
            temporary.write_text(artifact.text or "")
        else:
            _link_or_copy(artifact.path, temporary)
        # rename() does nothing where both names are already links to one file, as in a replay.
        os.replace(temporary, target)
        temporary.unlink(missing_ok=True)
    except OSError as error:
        if artifact.path is not None and not artifact.path.is_file():
            raise RefusedError(f"{artifact.path} is gone") from error
        raise UnavailableError(f"cannot write {target} ({error.strerror or error})") from error


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
