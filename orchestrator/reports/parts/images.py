"""The images of a sweep's data set, as they were decoded: from the machine's cache, by numpy, without torch.

What a journal says of the data is neither trusted as a path nor built: the entry has the form of a name of the cache's, and its
images are those of the predictions exactly where data set and split have the same fingerprint.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.base.regular import open_regular

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

ENTRY = re.compile(r"[a-z0-9_]+-[0-9a-f]{16}")
FILES = ("entry.json", "images.npy", "labels.npy", "part.npy")
LARGEST = 128
"""Pixels of the longer side of a picture; a larger one is scaled down."""

GONE = "its images are no longer in the cache of decoded images"
OTHERS = "the images in the cache are not those that it was trained on"
NOT_CACHED = "its data set is made in memory and not kept"
CHANNELS = "its images have neither one channel nor three"


def stored_images(config: Mapping[str, Any], fingerprint: str) -> Array | str:
    """All images of a trial's data set, uint8 NCHW, mapped from the cache; or why there are none, in words.

    Args:
        config: the trial's.
        fingerprint: of the data set and split that its predictions are of.
    """
    entry, cache, data = config.get("data_entry"), config.get("data_cache"), config.get("data")
    if not entry:
        return NOT_CACHED
    if not (isinstance(entry, str) and ENTRY.fullmatch(entry) and isinstance(data, Mapping)):
        return GONE
    split = json.dumps([data.get("val_fraction", 0.2), data.get("split_seed", 0), data.get("classes")], default=str)
    return _stored(entry, cache if isinstance(cache, str) else None, split, fingerprint)


@functools.lru_cache(maxsize=1)
def _stored(entry: str, cache: str | None, split: str, fingerprint: str) -> Array | str:
    from orchestrator.training.data.cache import cache_folder, read_entry
    from orchestrator.training.data.dataset import assemble

    try:
        folder = cache_folder(cache)
        for name in FILES:
            os.close(open_regular(folder / entry / name))  # read_entry would wait for a pipe
        found = read_entry(folder, entry)
        if found is None:
            return GONE
        contents, digest = found
        val_fraction, split_seed, classes = json.loads(split)
        dataset = assemble("", contents, digest, val_fraction=val_fraction, split_seed=split_seed, chosen=classes)
    except (OSError, ValueError, TypeError, RuntimeError):
        return GONE
    if dataset.fingerprint != fingerprint:
        return OTHERS
    return dataset.images if dataset.in_channels in (1, 3) else CHANNELS


def data_uri(image_CHW: Array) -> tuple[str, int, int]:
    """An image of one or three channels as the address of a PNG that holds it, and the picture's width and height in pixels."""
    from PIL import Image

    pixels = image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0)
    picture = Image.fromarray(pixels.copy())
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", *picture.size
