"""Data set and preprocessing as what is kept of them with the weights, and the preprocessing back from that."""

from __future__ import annotations

from orchestrator.base.inputs import Inputs
from orchestrator.training.data import Dataset
from orchestrator.training.preprocess import Affine
from orchestrator.training.preprocess.statistics import Transform


def inputs_of(dataset: Dataset, transform: Transform) -> Inputs:
    """What is kept of a data set and the transform that was fitted on its training split."""
    affine = transform if type(transform) is Affine else None
    return {
        "dtype": "uint8" if dataset.images.dtype == "uint8" else "float32",
        "channels": dataset.in_channels,
        "height": dataset.image_size[0],
        "width": dataset.image_size[1],
        "scale": None if affine is None else list(affine.scale),
        "shift": None if affine is None else list(affine.shift),
        "classes": list(dataset.classes),
    }


def transform_of(inputs: Inputs) -> Affine | None:
    """The preprocessing; None where it is a method of the user's own."""
    scale, shift = inputs["scale"], inputs["shift"]
    if scale is None or shift is None:
        return None
    return Affine(tuple(map(float, scale)), tuple(map(float, shift)))
