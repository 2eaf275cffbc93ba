"""Features of all images of a data set, computed once by the part of a network that is not trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from orchestrator.training.batches import DeviceData, Split
from orchestrator.training.evaluate import in_slices


def computed(
    data: DeviceData,
    parts: Sequence[nn.Module],
    *,
    depends_on: str,
    channels_last: bool,
    beat: Callable[[], None] = lambda: None,
) -> DeviceData:
    """The data with what `parts` return for each image in the place of the images; to the bit what they return in evaluation.

    The newest are kept with the data, for the next trial of the process with the same weights.

    Args:
        depends_on: what besides the weights decides what the parts compute.
        beat: called after every batch.

    Raises:
        ValueError: the parts do not return one tensor with a row for each image.
    """
    key = _digest(parts, depends_on)
    if key not in data.features:
        data.features.clear()  # one at a time: memory matters more than going back and forth
        splits = {
            name: replace(split, floats=_of_split(split, parts, channels_last, beat), of_features=True)
            for name, split in data.splits.items()
        }
        data.features[key] = DeviceData(data.dataset, splits)
    return data.features[key]


def _of_split(split: Split, parts: Sequence[nn.Module], channels_last: bool, beat: Callable[[], None]) -> Tensor:
    rows = []
    for part in parts:
        part.eval()
    with torch.no_grad():
        for images in in_slices(split, channels_last=channels_last):
            x = images
            for part in parts:
                x = part(x)
            if not isinstance(x, Tensor) or len(x) != len(images):
                raise ValueError(f"needs one row of features for each image, got {type(x).__name__}")
            rows.append(x.float())
            beat()
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _digest(parts: Sequence[nn.Module], depends_on: str) -> str:
    digest = hashlib.sha256(depends_on.encode())
    for part in parts:
        for name, tensor in part.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
