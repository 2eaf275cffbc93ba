"""Reading files that others may have put there: regular ones alone, so that no pipe or device is waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_regular(path: str | os.PathLike[str]) -> int:
    """A descriptor for reading a regular file; links are followed.

    Raises:
        OSError: it is not there, cannot be read, or is a pipe, a socket, a device or a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return descriptor


def read_regular(path: Path) -> bytes:
    """The contents of a regular file.

    Raises:
        OSError: as for `open_regular`.
    """
    with open(open_regular(path), "rb") as file:
        return file.read()
