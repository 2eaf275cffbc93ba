"""A trial's predictions file, read without torch and a part at a time: its header, its validation, its test when asked for.

The files may come from strangers: nothing of one is believed before its size, its SHA-256 and its shapes are right.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from orchestrator.base.regular import open_regular

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LARGEST = 400 * 2**20
"""Bytes of a file that is read; of ImageNet it has 200 MB."""

LARGEST_HEADER = 32 * 2**20

SPLITS = ("val", "test")
TYPES = {"logits": ("F32", "<f4", 2), "ids": ("I64", "<i8", 1), "labels": ("I64", "<i8", 1)}
"""Name -> data type in the file, the same for numpy, dimensions."""

# N examples, K classes


class UnfitError(Exception):
    """Predictions that cannot be used; says why, as the end of a sentence that begins with the trial."""


@dataclass(frozen=True)
class Header:
    """What a file says of its predictions.

    Args:
        uid: of the trial, as its files name it.
        fingerprint: of the data set and its split.
        examples: how many of validation, and of the test.
        at_best: the metrics of the epoch from which the weights are.
        tensors: those of predictions, as the file lists them.
        start: the first byte of their data.
    """

    uid: object
    fingerprint: str
    classes: tuple[str, ...]
    examples: tuple[int, ...]
    at_best: Mapping[str, Any]
    tensors: Mapping[str, Any]
    start: int


def read_header(path: Path) -> Header:
    """The header of a file, whose shapes fit each other and the size of the file.

    Raises:
        UnfitError: there is no such file, or it holds no predictions of validation and test.
    """
    try:
        with open(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(size)
            first = file.read(8)
            return parse_header(first + file.read(min(int.from_bytes(first, "little"), LARGEST_HEADER)), size)
    except OSError as error:
        raise UnfitError(_missing(error)) from error


def read_whole(path: Path, sha256: str) -> bytes:
    """The contents of a file that the journal names.

    Raises:
        UnfitError: there is no such file, it is too large, or it is another than the journal names.
    """
    try:
        with open(open_regular(path), "rb") as file:
            _check_size(os.fstat(file.fileno()).st_size)
            contents = file.read(LARGEST + 1)
    except OSError as error:
        raise UnfitError(_missing(error)) from error
    if hashlib.sha256(contents).hexdigest() != sha256:
        raise UnfitError("its predictions are damaged: their SHA-256 is not the one that was recorded")
    return contents


def parse_header(contents: bytes, size: int | None = None) -> Header:
    """The header at the beginning of a file's contents.

    Args:
        size: of the file, where these are not all its contents.

    Raises:
        UnfitError: it is none of predictions.
    """
    size = len(contents) if size is None else size
    start = 8 + int.from_bytes(contents[:8], "little")
    if len(contents) < 8 or start > min(len(contents), LARGEST_HEADER):
        raise UnfitError("its predictions are no whole safetensors file")
    try:
        tensors = json.loads(contents[8:start])
        state = json.loads(tensors["__metadata__"]["state"])
        best = next((row[2] for row in state.get("history") or () if row[0] == state.get("best_epoch")), None)
        fingerprint, classes, uid = state["fingerprint"], state["classes"], state["uid"]
        "".join([fingerprint, *classes]).encode()  # whatever is shown can be written
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise UnfitError("its predictions do not say what they are of") from error
    if not isinstance(fingerprint, str) or not isinstance(classes, list):
        raise UnfitError("its predictions do not say what they are of")
    examples = tuple(_length(tensors, split, len(classes), size - start) for split in SPLITS)
    listed = {name: tensors[name] for split in SPLITS for name in (f"{split}_{kind}" for kind in TYPES)}
    return Header(uid, fingerprint, tuple(classes), examples, best if isinstance(best, Mapping) else {}, listed, start)


def examples(contents: bytes, header: Header, split: str) -> tuple[Array, Array]:
    """Labels and ids of a split, int64 [N].

    Raises:
        UnfitError: a label is no class.
    """
    labels_N, ids_N = (_array(contents, header, split, name) for name in ("labels", "ids"))
    if labels_N.min() < 0 or labels_N.max() >= len(header.classes):
        raise UnfitError(f"its {_WORDS[split]} labels are no classes")
    return labels_N, ids_N


def logits(contents: bytes, header: Header, split: str, out_NK: Array) -> None:
    """Writes the logits of a split, the maximum of each row subtracted.

    Raises:
        UnfitError: one is not finite.
    """
    import numpy as np

    found_NK = _array(contents, header, split, "logits")
    with np.errstate(over="ignore", invalid="ignore"):
        np.subtract(found_NK, found_NK.max(axis=1, keepdims=True), out=out_NK)
    if not np.isfinite(out_NK).all():
        raise UnfitError(f"its {_WORDS[split]} predictions are not finite")


def _array(contents: bytes, header: Header, split: str, name: str) -> Array:
    import numpy as np

    entry = header.tensors[f"{split}_{name}"]
    offset = header.start + entry["data_offsets"][0]
    return np.frombuffer(contents, TYPES[name][1], math.prod(entry["shape"]), offset).reshape(entry["shape"])


_WORDS = {"val": "validation", "test": "test"}


def _length(tensors: Mapping[str, Any], split: str, classes: int, room: int) -> int:
    """The number of examples of a split, whose three tensors fit each other and lie in the file."""
    shapes = {name: _shape(tensors, f"{split}_{name}", name, room) for name in TYPES}
    length = shapes["ids"][0]
    if shapes["logits"] != [length, classes] or shapes["labels"] != [length]:
        raise UnfitError(f"its {_WORDS[split]} predictions have the wrong shape")
    if not length or not classes:
        raise UnfitError(f"its predictions are of no {_WORDS[split]} example")
    return length


def _shape(tensors: Mapping[str, Any], name: str, kind: str, room: int) -> list[int]:
    data_type, dtype, dimensions = TYPES[kind]
    entry = tensors.get(name)
    if not isinstance(entry, Mapping):
        raise UnfitError(f"it has no predictions {name}")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not _counts(shape, dimensions) or not _counts(offsets, 2):
        raise UnfitError(f"its predictions {name} have the wrong shape")
    if entry.get("dtype") != data_type:
        raise UnfitError(f"its predictions {name} are not of type {data_type}")
    begin, end = offsets
    if not begin <= end <= room or end - begin != math.prod(shape) * int(dtype[-1]):
        raise UnfitError("its predictions are no whole safetensors file")
    return shape


def _counts(numbers: object, count: int) -> TypeGuard[list[int]]:
    return (
        isinstance(numbers, list)
        and len(numbers) == count
        and all(type(number) is int and 0 <= number < 2**40 for number in numbers)
    )


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise UnfitError(f"its predictions have {size / 2**20:,.0f} MB, more than the {LARGEST // 2**20} that are read")


def _missing(error: OSError) -> str:
    return f"its predictions cannot be read ({error.strerror or type(error).__name__})"
