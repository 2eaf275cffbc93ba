"""Which runs folder ships a sweep to a store elsewhere: a tag of the sweep's run names it, so that a copy on another machine
is seen."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from orchestrator.journal.place import CopyError, Identity, adopt_command, read_identity
from orchestrator.stores.runs import HOLDER_TAG

_HOLDER = re.compile(r"([0-9a-f]{32}) ([^:]*):(/.*)#(\d+)")


def holder_tag(runs_dir: Path) -> str | None:
    """What the tag says of this runs folder: id, host, path and inode; None where it has no identity."""
    identity = read_identity(runs_dir)
    if identity is None:
        return None
    return f"{identity.id} {socket.gethostname()}:{identity.place.path}#{identity.place.inode}"


def check_holder(said: str | None, runs_dir: Path, sweep_uid: str) -> None:
    """Refuses where the runs of a sweep are another folder's.

    Args:
        said: the tag of the sweep's run; None where it has none yet.

    Raises:
        CopyError: names both places and the way out.
    """
    identity = read_identity(runs_dir)
    if said is None or identity is None or _is_held_by(said, identity):
        return
    match = _HOLDER.fullmatch(said)
    other = f"{match[2]}:{match[3]}" if match else repr(said)
    here = f"{socket.gethostname()}:{identity.place.path}"
    raise CopyError(
        f"the runs of {sweep_uid} in its MLflow store are shipped from {other}, and this is {here}: one is a copy of the other."
        f" Work there, or give this one an identity of its own:  {adopt_command(runs_dir)} --yes  (if the other is gone for"
        f" good, remove the tag {HOLDER_TAG} from the run {sweep_uid} in MLflow)"
    )


def _is_held_by(said: str, identity: Identity) -> bool:
    """Whether the tag names this folder, as it lies now or lay before."""
    match = _HOLDER.fullmatch(said)
    if match is None or match[1] != identity.id:
        return False
    host, path, inode = match[2], match[3], int(match[4])
    if inode == identity.place.inode or (host, path) == (socket.gethostname(), identity.place.path):
        return True  # the same on any host; or restored where it lay
    return any((path, inode) == (place.path, place.inode) for place in identity.before)
