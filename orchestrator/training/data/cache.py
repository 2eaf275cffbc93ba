"""The cache of decoded images: one folder an entry, built by one process under a lock, mapped by all others.

An entry appears complete or not at all: it is written under a temporary name, fsynced and renamed. Images are mapped
copy-on-write, so that no trial can change them for another.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from orchestrator.base import removal
from orchestrator.base.errors import NotReadyError
from orchestrator.training.data.dataset import check_label_range, checked_labels, digest
from orchestrator.training.data.source import Contents, Progress, Source

FORMAT_VERSION = 1
FILES = frozenset({"entry.json", "images.npy", "labels.npy", "part.npy"})
_OURS = re.compile(r"[a-z0-9_]+-[0-9a-f]{16}(\.tmp-[0-9a-f]+)?")
_OUR_LOCK = re.compile(r"\.([a-z0-9_]+-[0-9a-f]{16}|[a-z0-9_]+\.fetch)\.lock")


def cache_folder(cache: Path | str | None = None) -> Path:
    """Where decoded images are kept: `cache`, else $ORCHESTRATOR_CACHE, else ~/.cache/orchestrator/data."""
    named = cache or os.environ.get("ORCHESTRATOR_CACHE")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "orchestrator" / "data"


def cached(source: Source, folder: Path, progress: Progress) -> tuple[Contents, str, str]:
    """Contents of `source`, their digest and the entry's name; decoded now unless an entry for just these files exists.

    Raises:
        NotReadyError: the files are missing or damaged, or the cache cannot be written.
    """
    if not source.ready():
        with _locked(folder, f"{source.name}.fetch"):
            if not source.ready():
                source.fetch()
    entry = _entry_of(source)
    found = read_entry(folder, entry)
    if found is None:
        with _locked(folder, entry):
            # another process may have built it while this one waited
            found = read_entry(folder, entry)
            if found is None:
                _build(source, folder, entry, progress)
                found = read_entry(folder, entry)
    if found is None:
        raise NotReadyError(f"the cache entry {folder / entry} cannot be read back right after it was written")
    return *found, entry


class UndecodedError(NotReadyError):
    """The images would have to be decoded first."""


def looked_at(source: Source, folder: Path) -> tuple[Contents, str, str]:
    """The same of a source that is ready, where nothing may be decoded or written.

    Raises:
        NotReadyError: the files are not as they should be.
        UndecodedError: they are not in the cache.
    """
    entry = _entry_of(source)
    if found := read_entry(folder, entry):
        return *found, entry
    if not source.carried:
        raise UndecodedError(f"{source.name} is not decoded yet")
    contents = source.decode(lambda shape: np.zeros(shape, np.uint8), lambda done, total: None)  # type: ignore[arg-type,return-value]
    return contents, digest(contents), entry


def _entry_of(source: Source) -> str:
    key = hashlib.sha256(f"{FORMAT_VERSION}\n{source.key()}".encode()).hexdigest()[:16]
    return f"{source.name}-{key}"


def read_entry(folder: Path, entry: str) -> tuple[Contents, str] | None:
    """Contents and digest of an entry, images mapped; None where it is missing or damaged (wrong size or format)."""
    try:
        described = json.loads((folder / entry / "entry.json").read_text())
        if described["format"] != FORMAT_VERSION:
            return None
        path = folder / entry / "images.npy"
        images = np.load(path, mmap_mode="c", allow_pickle=False)
        labels = np.load(folder / entry / "labels.npy", allow_pickle=False)
        part = np.load(folder / entry / "part.npy", allow_pickle=False)
        count = described["shape"][0]
        whole = (
            list(images.shape) == described["shape"]
            and images.dtype == np.uint8
            and path.stat().st_size == described["bytes"]
            and (labels.shape, labels.dtype) == ((count,), np.int64)
            and (part.shape, part.dtype) == ((count,), np.uint8)
        )
        if not whole:
            return None
        return Contents(np.asarray(images), labels, part, tuple(described["classes"])), str(described["digest"])
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def cache_size(cache: Path | str | None = None) -> int:
    """Bytes that the entries take."""
    folder = cache_folder(cache)
    entries = [path for path in folder.iterdir() if _OURS.fullmatch(path.name)] if folder.is_dir() else []
    return sum(file.stat().st_size for entry in entries for file in entry.rglob("*") if file.is_file())


def clear_cache(cache: Path | str | None = None) -> int:
    """Removes every entry that is not being built right now; returns the bytes freed.

    Only what this program wrote is touched. Trials that run keep their mapped images until they end.
    """
    folder = cache_folder(cache)
    freed = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not _OURS.fullmatch(path.name) or not path.is_dir() or path.is_symlink():
            continue
        if ".tmp-" not in path.name and not any(path.iterdir()):  # an entry appears whole
            continue
        try:
            with _locked(folder, path.name.split(".")[0], wait=False):
                freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                _remove(folder, path.name)
        except BlockingIOError:
            continue
    for lock in [path for path in folder.glob(".*.lock") if _OUR_LOCK.fullmatch(path.name)]:
        try:
            with _locked(folder, lock.name[1 : -len(".lock")], wait=False), removal.opened(folder) as opened:
                opened.remove_file(lock.name)
        except BlockingIOError:
            continue
    return freed


def _build(source: Source, folder: Path, entry: str, progress: Progress) -> None:
    for stale in folder.glob(f"{entry}.tmp-*"):  # of a process that was killed: this one holds the lock
        _remove(folder, stale.name)
    temporary = folder / f"{entry}.tmp-{uuid.uuid4().hex[:8]}"
    with _writing(folder):
        temporary.mkdir()
    try:

        def allocate(shape: tuple[int, int, int, int]) -> np.memmap:
            with _writing(folder):
                return _reserve(temporary / "images.npy", shape)

        contents = source.decode(allocate, progress)
        labels = checked_labels(source.name, contents.labels, len(contents.images))
        check_label_range(source.name, labels, len(contents.classes))
        contents = Contents(contents.images, labels, contents.part, contents.classes)
        with _writing(folder):
            _write(contents, temporary)
            if (folder / entry).exists():  # damaged: moved away whole, for somebody may still have it mapped
                (folder / entry).rename(folder / f"{entry}.tmp-{uuid.uuid4().hex[:8]}")
            temporary.rename(folder / entry)
            _fsync(folder)
    finally:
        for rest in folder.glob(f"{entry}.tmp-*"):
            _remove(folder, rest.name)


def _reserve(path: Path, shape: tuple[int, int, int, int]) -> np.memmap:
    """A writable map of a new file; its space is taken now, because a full disk under a map kills the process."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        header = file.tell()
        os.posix_fallocate(file.fileno(), 0, header + int(np.prod(shape)))
    return np.memmap(path, np.uint8, "r+", header, shape)


def _write(contents: Contents, folder: Path) -> None:
    images = contents.images
    if not isinstance(images, np.memmap) or Path(str(images.filename)) != folder / "images.npy":
        raise TypeError("a source must decode into the array that it was given")
    images.flush()
    np.save(folder / "labels.npy", contents.labels)
    np.save(folder / "part.npy", contents.part)
    described = {
        "format": FORMAT_VERSION,
        "shape": list(images.shape),
        "bytes": (folder / "images.npy").stat().st_size,
        "classes": list(contents.classes),
        "digest": digest(contents),
    }
    (folder / "entry.json").write_text(json.dumps(described, indent=1))
    for path in folder.iterdir():
        _fsync(path)
    _fsync(folder)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise NotReadyError(
            f"the data cache {folder} cannot be written ({error.strerror or error}); "
            "free space there, or name another folder in ORCHESTRATOR_CACHE"
        ) from error


@contextmanager
def _locked(folder: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Holds `folder/.name.lock`; the kernel lets it go when the process dies.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    path = folder / f".{name}.lock"
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        with _writing(folder):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            with _writing(folder):
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(descriptor, path):  # not one that clear_cache removed in between
                yield
                return
        finally:
            os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove(folder: Path, entry: str) -> None:
    # a network file system keeps a mapped file under another name, and its folder with it, until it is let go
    with contextlib.suppress(OSError, removal.RefusedRemovalError), removal.opened(folder) as cache:
        cache.remove_tree(entry, _is_entry)


def _is_entry(folder: removal.Folder) -> bool:
    """Whether a folder holds nothing but the files of an entry."""
    return all(name in FILES or name.startswith(".nfs") for name in folder.names())


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
