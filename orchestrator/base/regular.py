"""Files that others may have put there: only regular ones are opened, so that no pipe or device is waited for."""

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


def read_private(path: Path) -> bytes:
    """The contents of a file that this user alone can have written: the file and its folder are the user's own, nobody else may
    write to either, and neither is a link.

    Raises:
        OSError: it is no such file, or cannot be read.
    """
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
        with open(descriptor, "rb") as file:
            if not (stat.S_ISREG(os.fstat(descriptor).st_mode) and is_private(above) and is_private(descriptor)):
                raise OSError(errno.EPERM, "Others can have written it", os.fspath(path))
            return file.read()
    finally:
        os.close(above)


def is_private(descriptor: int) -> bool:
    """Whether what is open belongs to this user, and nobody else may write to it."""
    about = os.fstat(descriptor)
    return about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """A descriptor of a regular file that this program writes; neither it nor the folder in which it lies may be a link.

    Args:
        flags: as of `os.open`.

    Raises:
        OSError: there is a link, a pipe, a socket, a device or a folder in its place; or it cannot be opened.
    """
    folder, name = os.path.split(os.fspath(path))
    try:
        above = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=above)
        finally:
            os.close(above)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(error.errno, "it, or the folder in which it lies, is a link", os.fspath(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return descriptor
