"""Files of a trial that survive any kill: written aside, flushed, renamed; named or stamped by their SHA-256; no pickles.

A checkpoint is one safetensors file, `checkpoint-<epoch>.<sha256>.safetensors`, whose metadata holds everything that is not a
tensor as JSON. The newest two are kept; of a damaged one the one before is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, Required, TypedDict

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from orchestrator.base.decode import COUNT, TIME_MS, Fits, check, read_json
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import ARTIFACTS, CHECKPOINT, CHECKPOINT_NAME, TEMPORARY, UNFINISHED
from orchestrator.base.records import STARTS_OVER, InitHealth
from orchestrator.base.regular import read_regular
from orchestrator.base.removal import Folder, discard, opened_trial
from orchestrator.training.private import to_safetensors

FORMAT = 1
KEPT = 2


Guard = Callable[[], object]


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint on disk."""

    path: str
    epoch: int
    sha256: str


@dataclass(frozen=True)
class Loaded:
    """The contents of a file written here: tensors by name, and the rest."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class _Metadata(TypedDict):
    format_version: str
    state: str


class _Header(TypedDict):
    __metadata__: _Metadata


_Number = Annotated[Any, Fits(lambda value: type(value) in (int, float), "a number")]
"""Finite or not: JSON as Python writes it has both."""

Result = tuple[Annotated[int, COUNT], Annotated[int, TIME_MS], Mapping[str, _Number]]
"""An epoch of a history: its number, its time, its metrics."""


class State(TypedDict, total=False):
    """What every file says of itself beside its tensors."""

    uid: Required[str]


class _OptimizerState(TypedDict):
    scalars: Mapping[str, Any]
    param_groups: Sequence[Mapping[str, Any]]


class CheckpointState(TypedDict):
    """What a checkpoint says beside its tensors."""

    uid: str
    epoch: Annotated[int, COUNT]
    fingerprint: str
    config: Mapping[str, Any]
    best: tuple[Annotated[int, COUNT], float] | None
    history: Sequence[Result]
    optimizer: _OptimizerState
    schedule: NotRequired[Any]
    averaged: NotRequired[Annotated[int, COUNT]]
    ema_updates: NotRequired[Annotated[int, COUNT]]
    init_health: NotRequired[InitHealth | None]


class Damaged(Exception):  # noqa: N818 - a finding about a file
    """A file is not what was written, or not what is looked for; the message says why."""


def save(
    folder: Path,
    epoch: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    guard: Guard = lambda: None,
    before: Mapping[Path, bytes] | None = None,
) -> SavedCheckpoint:
    """Write the checkpoint of `epoch`, after the files in `before`, and remove all but the newest two."""
    contents = pack(tensors, state)
    sha256 = hashlib.sha256(contents).hexdigest()
    path = folder / f"{CHECKPOINT}{epoch:06d}.{sha256}.safetensors"
    write_all({**(before or {}), path: contents}, guard)
    if surplus := [old.name for old, _, _ in checkpoints(folder)[KEPT:] if old != path]:
        with opened_trial(folder) as mine:
            for name in surplus:
                mine.remove_file(name)
    return SavedCheckpoint(str(path), epoch, sha256)


def load_newest(folder: Path, uid: str) -> tuple[Loaded | None, list[str]]:
    """The newest valid checkpoint of trial `uid`, and a note on each newer one that is damaged."""
    notes: list[str] = []
    for path, _, sha256 in checkpoints(folder):
        try:
            return load(path, uid=uid, sha256=sha256, shape=CheckpointState), notes
        except Damaged as error:
            notes.append(f"{path.name} is not used: {error}")
    if notes:
        notes.append(STARTS_OVER)
    return None, notes


def checkpoints(folder: Path) -> list[tuple[Path, int, str]]:
    """(path, epoch, SHA-256 by its name) of each checkpoint in the folder, newest epoch first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(folder / name, int(match[1]), match[2]) for name in names if (match := CHECKPOINT_NAME.fullmatch(name))]
    return sorted(found, key=lambda entry: (entry[1], entry[2]), reverse=True)


def pack(tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, stamp: bool = False) -> bytes:
    """A safetensors file with `state` as JSON in its metadata; with `stamp` also their SHA-256, which `load` checks."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format_version": str(FORMAT), "state": json.dumps(state)}
    if stamp:
        metadata["sha256"] = _digest(flat, metadata["state"])
    return to_safetensors(flat, metadata)


def load(path: Path, *, uid: str | None, sha256: str | None = None, shape: Any = State) -> Loaded:
    """Read a file written by `pack`, of any trial or of trial `uid`.

    Args:
        sha256: of the whole file; without it, the file must carry a stamp.
        shape: a TypedDict of what the state holds.

    Raises:
        Damaged: unreadable, not of this SHA-256 or that of its stamp, of another format version, or of another trial.
    """
    try:
        contents = read_regular(path)
    except OSError as error:
        raise Damaged(f"it cannot be read ({error.strerror})") from error
    if sha256 is not None and hashlib.sha256(contents).hexdigest() != sha256:
        raise Damaged("its contents do not match the SHA-256 in its name")
    try:
        header = read_json(contents[8 : 8 + int.from_bytes(contents[:8], "little")])
        check(header, _Header, "the header")
        metadata = header["__metadata__"]
        if metadata["format_version"] != str(FORMAT):
            raise Damaged(f"its format version is {metadata['format_version']}, this is {FORMAT}")
        state = json.loads(metadata["state"])  # as `pack` wrote it: with numbers that are not finite
        check(state, shape, "its state")
        tensors = safetensors.torch.load(contents)
    except (ValueError, RecursionError, SafetensorError) as error:
        raise Damaged(f"it is not a whole safetensors file ({error})") from error
    if sha256 is None and metadata.get("sha256") != _digest(tensors, metadata["state"]):
        raise Damaged("its contents do not match the SHA-256 in its header")
    if uid is not None and state.get("uid") != uid:
        raise Damaged(f"it belongs to trial {state.get('uid')}, not to {uid}")
    return Loaded(tensors, state)


def write(path: Path, contents: bytes, guard: Guard = lambda: None) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut.

    Args:
        guard: asked at the last moment, when the contents are on disk; what it raises leaves the file as it was.
    """
    write_all({path: contents}, guard)


def write_all(files: Mapping[Path, bytes], guard: Guard = lambda: None) -> None:
    """Write files as `write` does, in their order: a process that is killed leaves a later one only with those before it.

    The folders are flushed at the end: a journaling file system keeps the order of the renames, and its first flush takes all of
    them along, so that the others cost nothing.
    """
    asides: dict[Path, str] = {}
    try:
        for path, contents in files.items():
            # two workers (one of them thought dead) may write the same name: each has its own file aside
            asides[path] = f"{path}.{os.getpid()}{TEMPORARY}"
            _write_flushed(asides[path], contents)
        guard()
    except BaseException:
        for aside in asides.values():
            discard(aside)
        raise
    for path, aside in asides.items():
        failpoint(f"{_kind(path)}.before")
        os.replace(aside, path)
        failpoint(f"{_kind(path)}.after")
    for folder in dict.fromkeys(path.parent for path in files):
        _flush_folder(folder)


def _write_flushed(path: str, contents: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    try:
        with memoryview(contents) as left:
            done = 0
            while done < len(contents):
                done += os.write(descriptor, left[done:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _kind(path: Path) -> str:
    """The failpoint of a file: attempt, checkpoint, best, average, snapshot or predictions."""
    return re.split("[-.]", path.name, maxsplit=1)[0]


def clear_leftovers(folder: Folder) -> None:
    """Remove what a killed worker left half written, predictions included; files of other names are none of ours."""
    folder.remove_files(UNFINISHED)
    with contextlib.suppress(FileNotFoundError), folder.inside(ARTIFACTS) as artifacts:
        artifacts.remove_files(UNFINISHED)


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
