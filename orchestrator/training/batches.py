"""Images on the device, and batches of them by index: no loader processes, no copies of single examples."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from orchestrator.training.data import Dataset

Transform: TypeAlias = Callable[[Tensor], Tensor]
Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]

KEEP_FLOATS_BYTES = 64 * 2**20
"""A data set that is at most this large in float32 is preprocessed once and kept; a larger one stays as it is stored."""

CHUNK_BYTES = 4 * 2**20
"""Batches are gathered and augmented as many at a time as fit in this, in float32."""

GPU_SHARE = 0.25
"""A data set larger than this share of the free GPU memory stays in main memory."""


@dataclass(frozen=True)
class Split:
    """The examples of one split.

    Args:
        images: those of the split alone, or with `rows` those of the whole data set.
        rows: the split's places in `images`; None where they are all of it, in order.
        transform: what the images still need to become float32 on the device.
    """

    ids: np.ndarray[Any, np.dtype[np.int64]]
    labels: Tensor
    images: Tensor
    rows: Tensor | None
    transform: Transform | None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, order: Tensor) -> Tensor:
        """The float32 images at places `order` of the split (on the CPU), on the device."""
        places = order if self.rows is None else self.rows[order]
        images = self.images.index_select(0, places.to(self.images.device))
        return images if self.transform is None else self.transform(images)

    def slice(self, start: int, stop: int) -> Tensor:
        """The float32 images from place `start` to before `stop`; where they are kept as floats, without a copy."""
        if self.rows is None and self.transform is None:
            return self.images[start:stop]
        return self.take(torch.arange(start, min(stop, len(self))))


@dataclass(frozen=True)
class DeviceData:
    """A data set as a trial uses it, on its device and preprocessed."""

    dataset: Dataset
    splits: Mapping[str, Split]


_kept: dict[tuple[str, str, str], DeviceData] = {}


def place(
    dataset: Dataset,
    preprocess_spec: Mapping[str, Any],
    build_transform: Callable[[], Transform],
    device: torch.device,
) -> DeviceData:
    """The data set on the device; the last one is kept for the process's next trials with the same data and preprocessing.

    Args:
        build_transform: makes the preprocessing, fitted on the training images; called only when nothing is kept.
    """
    key = (dataset.fingerprint, json.dumps(preprocess_spec, sort_keys=True), str(device))
    if key not in _kept:
        _kept.clear()  # one data set at a time: memory matters more than going back and forth
        _kept[key] = _place(dataset, build_transform(), device)
    return _kept[key]


def batch_sizes(examples: int, batch_size: int) -> list[int]:
    """The sizes of an epoch's batches. The last one takes what is left, but a single example joins the batch before it: batch
    norm has no variance over one.

    Raises:
        ValueError: the batch is empty or larger than the training set.
    """
    if not 1 <= batch_size <= examples:
        raise ValueError(f"batch_size must be at least 1 and at most the {examples} training examples, got {batch_size}")
    whole, left = divmod(examples, batch_size)
    sizes = [batch_size] * whole
    if left == 1:
        sizes[-1] += 1
    elif left:
        sizes.append(left)
    return sizes


def batches(
    split: Split,
    sizes: list[int],
    *,
    order: Tensor,
    augment: Augment | None,
    draws: torch.Generator,
    channels_last: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, labels) of each batch, the examples in `order`, augmented with random numbers from `draws`."""
    bytes_each = 4 * math.prod(split.images.shape[1:])
    start = 0
    for chunk in _chunks(sizes, max(1, CHUNK_BYTES // bytes_each)):
        places = order[start : start + sum(chunk)]
        start += len(places)
        images = split.take(places)
        if augment is not None:
            images = augment(images, draws)
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        labels = split.labels.index_select(0, places.to(split.labels.device))
        yield from zip(images.split(chunk), labels.split(chunk), strict=True)


def _chunks(sizes: list[int], examples: int) -> Iterator[list[int]]:
    """Runs of consecutive batches, each of at most `examples` unless one batch alone has more."""
    chunk: list[int] = []
    for size in sizes:
        if chunk and sum(chunk) + size > examples:
            yield chunk
            chunk = []
        chunk.append(size)
    yield chunk


def _place(dataset: Dataset, transform: Transform, device: torch.device) -> DeviceData:
    images = _as_tensor(dataset.images)
    labels = torch.from_numpy(np.asarray(dataset.labels, dtype=np.int64))

    def ready(batch: Tensor) -> Tensor:
        return transform(batch.to(device))

    small = 4 * images.numel() <= KEEP_FLOATS_BYTES
    if not small and device.type == "cuda" and images.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        images = images.to(device)
    splits = {}
    for name, ids in dataset.splits.items():
        ids = np.array(ids, dtype=np.int64)
        rows = torch.from_numpy(ids)
        kept = ready(images[rows]).contiguous() if small else images
        splits[name] = Split(ids, labels[rows].to(device), kept, None if small else rows, None if small else ready)
    return DeviceData(dataset, splits)


def _as_tensor(images: np.ndarray[Any, Any]) -> Tensor:
    with warnings.catch_warnings():
        # the memory-mapped file is read-only, and so do we use the tensor
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images)
