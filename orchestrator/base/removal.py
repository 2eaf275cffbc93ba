"""The one place where files and folders are deleted.

Folders are opened without following links, each relative to the descriptor of the one above, and what is removed is named
relative to such a descriptor: a folder that somebody swaps for a link between the check and the removal leads nowhere. No
other file system is entered. A whole folder goes only after a look at a mark of ours in it. No path from a database or a
journal comes here: callers pass names that `layout` gives.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import TEMPORARY, TRIALS, sweep_of
from orchestrator.base.regular import is_private

DEEPEST = 64
"""Folders below one another that are removed; ours are at most a dozen deep."""

PROBE = ".orchestrator-"
"""How the names of files and folders begin that are made for a moment."""

TEMPORARY_MARK = ".temporary-of-orchestrator"
"""In a temporary folder: holds the folder's own name."""


class RefusedRemovalError(NotReadyError):
    """What is there is not what was to be removed: a link, another file system, a folder without our mark. It stays."""


IsOurs = Callable[["Folder"], bool]


class Folder:
    """An open folder.

    Args:
        descriptor: of the folder; belongs to `opened` or `inside`, which close it.
        path: for messages.
        depth: folders between this one and the one that was opened by its path.
    """

    def __init__(self, descriptor: int, path: Path, depth: int = 0) -> None:
        self.path = path
        self._descriptor = descriptor
        self._depth = depth

    @property
    def by_descriptor(self) -> Path:
        """A path of this very folder for what takes no descriptor, whatever lies at `path` by now."""
        proc = Path("/proc/self/fd", str(self._descriptor))
        return proc if proc.exists() else self.path

    @contextlib.contextmanager
    def inside(self, name: str, *, create: bool = False, whole: bool = False, mode: int = 0o777) -> Iterator[Folder]:
        """The folder of this name in here.

        Args:
            create: make it where it is missing.
            mode: of one that is made.
            whole: it is to go with all that is in it: a bind mount of the same file system is told, too, which takes longer.

        Raises:
            RefusedRemovalError: it is a link, no folder, or the root of another file system.
            FileNotFoundError: there is nothing of this name.
        """
        _check_name(name)
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=self._descriptor)
        path = self.path / name
        descriptor = _open_without_links(name, path, self._descriptor)
        try:
            mount = _mount if whole else _device
            if mount(descriptor) != mount(self._descriptor):
                raise RefusedRemovalError(f"{path} is another file system, which is left alone; unmount it first")
            if self._depth >= DEEPEST:
                raise RefusedRemovalError(f"{path} lies deeper than any folder of ours")
            yield Folder(descriptor, path, self._depth + 1)
        finally:
            os.close(descriptor)

    @property
    def is_private(self) -> bool:
        """Whether it belongs to this user, and nobody else may write to it."""
        return is_private(self._descriptor)

    def names(self) -> list[str]:
        """What is in here."""
        return os.listdir(self._descriptor)

    def is_file(self, name: str) -> bool:
        """Whether there is a regular file of this name; a link is none."""
        _check_name(name)
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def read(self, name: str, most: int = 1 << 16) -> bytes | None:
        """The first bytes of a regular file; None where there is none."""
        if not self.is_file(name):
            return None
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._descriptor)
        with open(descriptor, "rb") as file:
            return file.read(most)

    def write(self, name: str, contents: str | bytes, *, mode: int = 0o666) -> None:
        """Puts a file of this name here, whole or not at all; a link of this name is replaced, not followed."""
        _check_name(name)
        aside = f"{name}.{secrets.token_hex(4)}{TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(aside, flags, mode, dir_fd=self._descriptor)
        try:
            with open(descriptor, "wb") as file:
                file.write(contents.encode() if isinstance(contents, str) else contents)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            self.remove_file(aside)
            raise
        os.fsync(self._descriptor)

    def write_aside(self, name: str, text: str) -> str:
        """Puts a file for `name` beside it, to be renamed; returns what it is called. It is not fsynced."""
        _check_name(name)
        aside = f"{name}{TEMPORARY}"
        self.remove_file(aside)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(aside, flags, 0o666, dir_fd=self._descriptor)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        except BaseException:
            self.remove_file(aside)
            raise
        return aside

    def rename(self, name: str, new: str, *, durable: bool = True) -> None:
        """Gives a file or folder in here another name; a file of that name is replaced by a file."""
        for one in (name, new):
            _check_name(one)
        os.rename(name, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        if durable:
            os.fsync(self._descriptor)

    def make_own(self, name: str) -> None:
        """Turns a file that has other names elsewhere (hard links) into a copy, so that writing to it changes no other."""
        if self.is_file(name) and os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_nlink > 1:
            aside = f"{name}.{secrets.token_hex(4)}{TEMPORARY}"
            shutil.copy2(self.by_descriptor / name, self.by_descriptor / aside)
            self.rename(aside, name)

    def touch(self, name: str) -> None:
        """Makes an empty file, where there is none of this name."""
        _check_name(name)
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666, dir_fd=self._descriptor))

    def remove_file(self, name: str) -> None:
        """Removes the file, or the link itself, of this name; does nothing where there is none."""
        _check_name(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def remove_files(self, pattern: re.Pattern[str]) -> None:
        """Removes the files whose whole names match."""
        for name in self.names():
            if pattern.fullmatch(name) and self.is_file(name):
                self.remove_file(name)

    def remove_empty(self, name: str) -> bool:
        """Removes the folder of this name where it is empty; whether it was."""
        _check_name(name)
        try:
            os.rmdir(name, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        return True

    def remove_tree(self, name: str, is_ours: IsOurs) -> None:
        """Removes the folder of this name with everything in it; does nothing where there is none.

        Args:
            is_ours: looks at the open folder for our mark.

        Raises:
            RefusedRemovalError: it is a link, or has no mark of ours; nothing was removed. Or a file system is mounted in it.
            OSError: something cannot be removed.
        """
        try:
            with self.inside(name, whole=True) as folder:
                folder.empty(is_ours)
        except FileNotFoundError:
            return
        self.remove_empty(name)

    def empty(self, is_ours: IsOurs, keep: Collection[str] = ()) -> None:
        """Removes everything in here but the names in `keep`.

        Raises:
            RefusedRemovalError, OSError: as `remove_tree`.
        """
        if not is_ours(self):
            raise RefusedRemovalError(f"{self.path} is not removed: nothing in it says that it is orchestrator's")
        self._empty(keep)

    def _empty(self, keep: Collection[str] = ()) -> None:
        for name in sorted(set(self.names()) - set(keep)):
            if self._is_folder(name):
                with contextlib.suppress(FileNotFoundError), self.inside(name, whole=True) as folder:
                    folder._empty()
                self.remove_empty(name)
            else:
                self.remove_file(name)

    def _is_folder(self, name: str) -> bool:
        return self._has(name, stat.S_ISDIR)

    def _has(self, name: str, kind: Callable[[int], bool]) -> bool:
        try:
            return kind(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Folder]:
    """The folder at a path that the user named: it may be a link, nothing below it may.

    Raises:
        OSError: there is none, or it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Folder(descriptor, path)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_below(path: Path) -> Iterator[Folder]:
    """The folder at a path whose last part must not be a link.

    Raises:
        RefusedRemovalError, OSError: as `Folder.inside`.
    """
    descriptor = _open_without_links(str(path), path, None)
    try:
        yield Folder(descriptor, path)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_trial(path: Path, *, create: bool = False) -> Iterator[Folder]:
    """A trial's folder: below a sweep's folder no part may be a link; one that the user chose may be.

    Args:
        create: make it where it is missing, but not the sweep's folder.

    Raises:
        RefusedRemovalError, OSError: as `Folder.inside`.
    """
    sweep = sweep_of(path)
    with contextlib.ExitStack() as stack:
        if sweep is not None:
            folder = stack.enter_context(opened_below(sweep))
            for name in (TRIALS, path.name):
                folder = stack.enter_context(folder.inside(name, create=create))
        else:
            if create:
                path.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(opened(path))
        yield folder


def discard(path: Path | str) -> None:
    """Removes a file of ours that was never whole, or was a probe, as its name says; does nothing where there is none."""
    name = os.path.basename(path)
    assert name.endswith(TEMPORARY) or name.startswith(PROBE), path
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def temporary_folder(parent: Path, prefix: str, *, mode: int = 0o700) -> Iterator[Path]:
    """A new folder in `parent` that is removed in the end; `remove_abandoned` removes it where the process was killed."""
    path = parent / f"{prefix}{secrets.token_hex(4)}"
    path.mkdir(mode)
    try:
        (path / TEMPORARY_MARK).write_text(path.name)
        yield path
    finally:
        remove_temporary(path)


def remove_temporary(path: Path) -> None:
    """Removes a folder of `temporary_folder`, as far as that is possible now."""
    with contextlib.suppress(OSError, RefusedRemovalError), opened(path.parent) as parent:
        if not parent.remove_empty(path.name):  # killed before it had its mark
            parent.remove_tree(path.name, lambda folder: folder.read(TEMPORARY_MARK) == path.name.encode())


def remove_abandoned(parent: Path, prefix: str, is_abandoned: Callable[[Path], bool] = lambda path: True) -> None:
    """Removes the folders of `temporary_folder` that killed processes of this user left."""
    for path in sorted(parent.glob(f"{prefix}*")):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and is_abandoned(path):
                remove_temporary(path)


def _open_without_links(name: str, path: Path, above: int | None) -> int:
    """A descriptor of a folder; `name` is a path, or counts from the folder `above`."""
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
            what = "a link" if link else "no folder"
            raise RefusedRemovalError(f"{path} is {what}; put the folder itself in its place") from error
        raise


def _device(descriptor: int) -> int:
    return os.fstat(descriptor).st_dev


def _check_name(name: str) -> None:
    """A name in a folder, and no path that leads elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise RefusedRemovalError(f"{name!r} is not the name of a file in a folder")


def _mount(descriptor: int) -> tuple[int, str]:
    """Where the folder is mounted; bind mounts of one file system differ by the kernel's number of the mount."""
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{descriptor}") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return os.fstat(descriptor).st_dev, line
    return os.fstat(descriptor).st_dev, ""
