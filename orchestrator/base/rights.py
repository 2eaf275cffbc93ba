"""What the user allows beyond the catalogue, and what of it is in force in this process.

Rights come from a command line, from the user's own settings file or from an argument in Python, and from nowhere else.
A journal, a checkpoint, a plan or a YAML may record them, and gives none: whoever reads such a file starts without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Rights:
    """Targets outside the catalogue, and the folders in which their modules lie.

    Args:
        targets: packages, modules or single objects by their dotted names.
        import_paths: absolute folders; they come last on the path, so that they shadow nothing.
    """

    targets: tuple[str, ...] = ()
    import_paths: tuple[str, ...] = ()

    def __or__(self, other: Rights) -> Rights:
        return Rights(
            tuple(dict.fromkeys((*self.targets, *other.targets))),
            tuple(dict.fromkeys((*self.import_paths, *other.import_paths))),
        )


_in_force = Rights()


def in_force() -> Rights:
    """The rights in this process now."""
    return _in_force


def grant(rights: Rights) -> None:
    """Put these rights in force instead of those before, and their folders last on the path."""
    global _in_force
    _in_force = rights
    for path in rights.import_paths:
        if path not in sys.path:
            sys.path.append(path)


@contextmanager
def granted(rights: Rights) -> Iterator[None]:
    """These rights are in force for as long as the block lasts; folders stay on the path, for imports that come later."""
    before = _in_force
    grant(rights)
    try:
        yield
    finally:
        grant(before)
