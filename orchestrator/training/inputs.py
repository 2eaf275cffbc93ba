"""Data set and preprocessing as what is kept of them with the weights, and the preprocessing back from that.

What a few numbers for each channel cannot say are tensors in the file of the weights, beside those of the network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orchestrator.base.inputs import Inputs
from orchestrator.training.data import Dataset
from orchestrator.training.preprocess import Affine, Pixelwise, Projection
from orchestrator.training.preprocess.statistics import Transform

PREFIX = "inputs/"
"""Of the tensors of the preprocessing; no name within a network has a slash."""


def inputs_of(dataset: Dataset, transform: Transform) -> Inputs:
    """What is kept of a data set and the transform that was fitted on its training split."""
    affine = transform if type(transform) is Affine else None
    found: Inputs = {
        "dtype": "uint8" if dataset.images.dtype == "uint8" else "float32",
        "channels": dataset.in_channels,
        "height": dataset.image_size[0],
        "width": dataset.image_size[1],
        "scale": None if affine is None else list(affine.scale),
        "shift": None if affine is None else list(affine.shift),
        "classes": list(dataset.classes),
    }
    if type(transform) is Pixelwise:
        found["stored"] = "pixels"
    elif type(transform) is Projection:
        found["stored"] = "matrix"
    return found


def tensors_of(transform: Transform) -> dict[str, Tensor]:
    """What the file of the weights holds of it, beside `inputs_of`; most often nothing."""
    if type(transform) is Pixelwise:
        return {f"{PREFIX}scale": transform.scale, f"{PREFIX}shift": transform.shift}
    if type(transform) is Projection:
        parts = {"mean": transform.mean, "matrix": transform.matrix, "offset": transform.offset}
        return {f"{PREFIX}{name}": tensor for name, tensor in parts.items()}
    return {}


def of_network(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the tensors in a file of weights, those of the network."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}


def transform_of(inputs: Inputs, tensors: Mapping[str, Tensor]) -> Transform | None:
    """The preprocessing; None where it is a method of the user's own.

    Args:
        tensors: all of the file of the weights.

    Raises:
        ValueError: it is stored as tensors, and they are not there or do not fit the images.
    """
    shape = (inputs["channels"], inputs["height"], inputs["width"])
    stored = inputs.get("stored")
    if stored == "pixels":
        return Pixelwise(_stored(tensors, "scale", shape), _stored(tensors, "shift", shape))
    if stored == "matrix":
        numbers = shape[0] * shape[1] * shape[2]
        matrix = _stored(tensors, "matrix", (numbers, numbers))
        return Projection(_stored(tensors, "mean", (numbers,)), matrix, _stored(tensors, "offset", (1,)))
    scale, shift = inputs["scale"], inputs["shift"]
    if scale is None or shift is None:
        return None
    return Affine(tuple(map(float, scale)), tuple(map(float, shift)))


def _stored(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    found = tensors.get(f"{PREFIX}{name}")
    if found is None or tuple(found.shape) != shape or found.dtype != torch.float32:
        got = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
        raise ValueError(f"{PREFIX}{name} must be float32 {list(shape)} for its images, got {got}")
    return found
