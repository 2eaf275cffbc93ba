"""The mark that says which sweep a folder belongs to; what carries none is never deleted as a sweep."""

from __future__ import annotations

import contextlib
import json
from typing import Literal, TypedDict

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL, JOURNAL_COMPANIONS, SWEEP_MARK
from orchestrator.base.removal import Folder
from orchestrator.journal.file import Reader

FORMAT = 1
OPENING_BYTES = 1 << 18
"""The first event of a journal lies within so many bytes."""


class SweepMark(TypedDict):
    """What `sweep.json` holds: whose folder it is, and in which runs folder."""

    format: Literal[1]
    uid: str
    store: str


def write_mark(folder: Folder, uid: str, store_id: str) -> None:
    """Marks an open folder as that of a sweep, in the runs folder of this id."""
    folder.write(SWEEP_MARK, json.dumps({"format": FORMAT, "uid": uid, "store": store_id}))


def is_sweep(folder: Folder) -> bool:
    """Whether an open folder is that of the sweep of its name, by its mark or by the first event of its journal.

    Of a journal that is damaged the bytes are looked at: the sweep can still be deleted then.
    """
    uid = folder.path.name
    mark = folder.read(SWEEP_MARK)
    if mark is not None:
        with contextlib.suppress(ValueError, AttributeError):
            return bool(json.loads(mark).get("uid") == uid)
    if not folder.is_file(JOURNAL):
        return False
    with contextlib.suppress(NotReadyError), contextlib.closing(Reader(folder.by_descriptor / JOURNAL)) as reader:
        opening = reader.opened()
        if opening is not None:
            return opening.uid == uid
    text = f'"uid":"{uid}"'.encode()
    return any(text in (folder.read(name, OPENING_BYTES) or b"") for name in (JOURNAL, *JOURNAL_COMPANIONS))
