"""Images on the device, and batches of them by index: no loader processes, no copies of single examples."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.training.augment import Augment, Mixing
from orchestrator.training.data import Dataset
from orchestrator.training.losses.base import Batch
from orchestrator.training.preprocess import Preprocess
from orchestrator.training.preprocess.affine import unit
from orchestrator.training.preprocess.statistics import Transform

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
        stored: the images of the whole data set as they are stored.
        rows: the split's places in `stored`.
        transform: from stored images to the float32 that the model sees.
        floats: the split's images after `transform`, where that is kept; or features of them (`features.computed`).
        of_features: whether `floats` are features.
    """

    ids: np.ndarray[Any, np.dtype[np.int64]]
    labels: Tensor
    stored: Tensor
    rows: Tensor
    transform: Transform
    floats: Tensor | None
    of_features: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, order: Tensor) -> Tensor:
        """The float32 images at places `order` (on the CPU) of the split, on the device."""
        if self.floats is not None:
            return self.floats.index_select(0, order.to(self.floats.device))
        return self.transform(self.take_stored(order))

    def take_stored(self, order: Tensor) -> Tensor:
        """The images at places `order` (on the CPU) of the split as they are stored, on the device."""
        images = self.stored.index_select(0, self.rows[order].to(self.stored.device))
        return images.to(self.labels.device)

    def slice(self, start: int, stop: int) -> Tensor:
        """The float32 images from place `start` to before `stop`; where they are kept, without a copy.

        Features are copied: matrix products round by where numbers lie in memory, too, and a network's own begin afresh.
        """
        if self.floats is not None:
            return self.floats[start:stop].clone() if self.of_features else self.floats[start:stop]
        return self.take(torch.arange(start, min(stop, len(self))))


@dataclass(frozen=True)
class DeviceData:
    """A data set as a trial uses it, on its device and preprocessed.

    Args:
        features: the newest features computed of it, by what they depend on.
    """

    dataset: Dataset
    splits: Mapping[str, Split]
    features: dict[str, DeviceData] = field(default_factory=dict, compare=False)


_kept: dict[str, DeviceData] = {}


def place(
    dataset: Dataset, spec: Mapping[str, Any], build_preprocess: Callable[[], Preprocess | None], device: torch.device
) -> DeviceData:
    """The data set on the device; the last one is kept for the process's next trials with the same data and preprocessing.

    Args:
        spec: of the preprocessing that `build_preprocess` gives when nothing is kept.
    """
    # what is trained on depends on more than the fingerprint knows of
    train = (len(dataset.train_ids), dataset.label_noise, dataset.split_seed)
    key = json.dumps([dataset.fingerprint, train, spec, str(device)], sort_keys=True)
    if key not in _kept:
        _kept.clear()  # one data set at a time: memory matters more than going back and forth
        _kept[key] = _place(dataset, fitted(build_preprocess(), dataset), device)
    return _kept[key]


def batch_sizes(examples: int, batch_size: int) -> list[int]:
    """The sizes of an epoch's batches. The last one takes what is left, but a single example joins the batch before it: batch
    norm has no variance over one.

    Raises:
        ValueError: the batch is empty or larger than the training set.
    """
    if not 1 <= batch_size <= examples:
        hint = f"; write  batch_size={examples}  or less" if batch_size > examples > 0 else ""
        raise ValueError(
            f"batch_size must be at least 1 and at most the {examples} training examples, got {batch_size}{hint}"
        )
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
    classes: int = 0,
) -> Iterator[Batch]:
    """The batches of an epoch, the examples in `order`, augmented with random numbers from `draws`.

    Args:
        classes: of the data set; an augmentation that mixes labels asks for it.
    """
    bytes_each = 4 * math.prod(split.stored.shape[1:])
    start = 0
    for chunk in _chunks(sizes, max(1, CHUNK_BYTES // bytes_each)):
        places = order[start : start + sum(chunk)]
        start += len(places)
        if augment is None:
            images = split.take(places)
        else:  # before preprocessing: what a crop pads is black, and bytes are moved, not floats
            images = split.transform(augment(split.take_stored(places), draws))
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        labels = split.labels.index_select(0, places.to(split.labels.device))
        for batch in map(Batch, torch.split(images, chunk), torch.split(labels, chunk), torch.split(places, chunk)):
            if isinstance(augment, Mixing):
                mixed, soft = augment.mix(batch.images, batch.labels, classes, draws)
                yield Batch(mixed, soft, batch.indices)
            else:
                yield batch


def _chunks(sizes: list[int], examples: int) -> Iterator[list[int]]:
    """Runs of consecutive batches, each of at most `examples` unless one batch alone has more."""
    chunk: list[int] = []
    for size in sizes:
        if chunk and sum(chunk) + size > examples:
            yield chunk
            chunk = []
        chunk.append(size)
    yield chunk


def fitted(preprocess: Preprocess | None, dataset: Dataset) -> Transform:
    """The transform of a preprocessing method for this data set, fitted on its training split."""
    if preprocess is None:
        return unit(dataset.images.dtype, dataset.in_channels)
    return preprocess(dataset.images, dataset.train_ids)


def _place(dataset: Dataset, transform: Transform, device: torch.device) -> DeviceData:
    images = _as_tensor(dataset.images)
    if device.type == "cuda" and images.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        images = images.to(device)
    splits = {}
    for name, whole in dataset.splits.items():
        ids = np.array(dataset.train_ids if name == "train" else whole, dtype=np.int64)
        rows = torch.from_numpy(ids)
        told = dataset.train_labels if name == "train" else dataset.labels[ids]
        labels = torch.from_numpy(np.asarray(told, dtype=np.int64)).to(device)
        split = Split(ids, labels, images, rows, transform, None)
        if 4 * images.numel() <= KEEP_FLOATS_BYTES:
            split = replace(split, floats=split.take(torch.arange(len(ids))).contiguous())
        splits[name] = split
    return DeviceData(dataset, splits)


def _as_tensor(images: np.ndarray[Any, Any]) -> Tensor:
    with warnings.catch_warnings():
        # the memory-mapped file is read-only, and so do we use the tensor
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images)
